"""A contact sheet shows each modality as it is, and of a pair what lies on each other."""

import numpy as np
from numpy.typing import NDArray

from securefed.data.contact_sheet import COLUMNS, GAP, MARGIN, TOP, contact_sheet, evenly_spaced
from securefed.data.samples import Patient

SIZE = 48


def patient(slices: int, *missing: tuple[int, int]) -> Patient:
    """A disc of 100 in CT and of 200 in MRI, whose middle is 12 pixels further right."""
    y, x = np.indices((SIZE, SIZE))
    images = np.zeros((2, slices, SIZE, SIZE), np.uint8)
    images[0] = np.where((y - 24) ** 2 + (x - 18) ** 2 < 100, 100, 0)
    images[1] = np.where((y - 24) ** 2 + (x - 30) ** 2 < 100, 200, 0)
    present = np.ones((2, slices), np.bool_)
    for place in missing:
        present[place] = False
        images[place] = 0
    return Patient("p", "north", 1, ("ct", "mri"), images, present)


def pictures(of: Patient) -> NDArray[np.uint8]:
    """(rows, columns, size, size, 3) of its sheet."""
    sheet = np.asarray(contact_sheet(of))
    step = SIZE + GAP
    rows, columns = (sheet.shape[0] - TOP) // step, (sheet.shape[1] - MARGIN) // step
    return np.stack(
        [
            [
                sheet[TOP + row * step :, MARGIN + column * step :][:SIZE, :SIZE]
                for column in range(columns)
            ]
            for row in range(rows)
        ]
    )


def test_rows_are_the_modalities_and_two_comparisons_of_them() -> None:
    of = patient(3)
    ct, mri, overlay, board = pictures(of)
    assert np.array_equal(ct[..., 0], of.images_of("ct"))
    assert np.array_equal(mri[..., 1], of.images_of("mri"))
    assert np.array_equal(overlay[..., 1], of.images_of("ct"))  # green
    assert np.array_equal(overlay[..., 0], of.images_of("mri"))  # magenta
    assert np.array_equal(overlay[..., 2], of.images_of("mri"))
    fields = board[0, :, :, 0]
    assert np.array_equal(fields[:8, :8], of.images_of("ct")[0, :8, :8])
    assert np.array_equal(fields[20:24, 24:32], of.images_of("mri")[0, 20:24, 24:32])


def test_what_one_of_a_pair_lacks_is_compared_with_nothing() -> None:
    ct, mri, overlay, board = pictures(patient(2, (1, 0)))
    assert ct[0].any()
    assert not mri[0].any()
    assert not overlay[0].any()
    assert not board[0].any()
    assert overlay[1].any()


def test_of_many_slices_some_are_shown_from_the_lowest_to_the_highest() -> None:
    assert evenly_spaced(5).tolist() == [0, 1, 2, 3, 4]
    shown = evenly_spaced(31).tolist()
    assert (shown[0], shown[-1], len(shown)) == (0, 30, COLUMNS)
    assert pictures(patient(31)).shape[1] == COLUMNS
