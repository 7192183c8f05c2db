"""Copies under two ids are found; different people are not called copies."""

import numpy as np
import pytest
from numpy.typing import NDArray

from securefed.data.duplicates import View, difference_hash, find_duplicates
from securefed.data.images import fit_square
from securefed.data.load import phantom_hospitals
from securefed.data.phantom import PhantomSpec
from securefed.data.samples import Patient
from tests.scans import with_images


def people(count: int) -> list[Patient]:
    spec = PhantomSpec(missing_query=0.0, missing_context=0.0, slices=(3, 3))
    return phantom_hospitals(spec, 1, count, 0, seed=3).hospitals[0].train


def recompressed(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Halve, double, darken: what a second export of the same scan does."""
    small = [fit_square(fit_square(image, 48), 64) for image in images]
    return np.asarray(np.array(small) * 0.9 + 3, dtype=np.uint8)


def test_different_people_are_not_duplicates() -> None:
    assert find_duplicates(people(40)) == []


def test_an_identical_image_under_another_id_is_found() -> None:
    patients = people(6)
    stolen = with_images(patients[5], "other", ct=patients[2].images_of("ct"))
    found = find_duplicates([*patients[:5], stolen])
    assert {(d.identical, d.first, d.second) for d in found} == {
        (True, View(patients[2].patient_id, "ct", k), View("other", "ct", k)) for k in range(3)
    }


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_copy_that_is_mirrored_or_turned_is_found(turns: int, mirrored: bool) -> None:
    patients = people(3)
    images = patients[0].images_of("mri")[:, :, ::-1] if mirrored else patients[0].images_of("mri")
    turned = np.ascontiguousarray(np.rot90(images, turns, axes=(1, 2)))
    copy = with_images(patients[2], "other", mri=turned)
    found = find_duplicates([*patients[:2], copy])
    assert {(d.identical, d.first.patient, d.second) for d in found} == {
        (True, patients[0].patient_id, View("other", "mri", k)) for k in range(3)
    }


def test_a_rescaled_darkened_copy_is_found_as_near() -> None:
    patients = people(6)
    copy = with_images(patients[5], "other", mri=recompressed(patients[1].images_of("mri")))
    found = find_duplicates([*patients[:5], copy])
    assert {(d.identical, d.first.patient, d.second) for d in found} >= {
        (False, patients[1].patient_id, View("other", "mri", k)) for k in range(3)
    }
    assert all(d.first.patient == patients[1].patient_id for d in found)


def test_slices_of_one_patient_and_blank_slices_are_no_duplicates() -> None:
    (patient,) = people(1)
    same = np.repeat(patient.images_of("ct")[:1], 3, axis=0)
    blank = np.full_like(same, 7)
    one = with_images(patient, ct=same, mri=blank)
    two = with_images(patient, "other", ct=blank, mri=blank)
    assert find_duplicates([one, two]) == []


def test_difference_hash_matches_a_naive_one() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 72, 72), dtype=np.uint8)
    for image, value in zip(images, difference_hash(images), strict=True):
        means = image.reshape(8, 9, 9, 8).mean(axis=(1, 3))  # (8, 9) areas of 9 x 8 pixels
        bits = [means[r, c + 1] > means[r, c] for r in range(8) for c in range(8)]
        expected = int.from_bytes(np.packbits(bits).tobytes(), "little")
        assert int(value) == expected
