"""A Patient refuses whatever its consumers could not use, and shows no scan."""

from typing import Any

import numpy as np
import pytest

from securefed.data.samples import Patient
from securefed.errors import DataError


def fields(**changes: Any) -> dict[str, Any]:
    present = np.array([[True, True, False], [True, True, True]])
    images = np.full((2, 3, 16, 16), 77, dtype=np.uint8)
    images[~present] = 0
    good: dict[str, Any] = {
        "patient_id": "pseudonym-1",
        "site": "north",
        "label": 1,
        "modalities": ("pet", "mri"),
        "images": images,
        "present": present,
    }
    return good | changes


def pixels(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.uint8)


def test_patient_counts_slices_and_pixels() -> None:
    patient = Patient(**fields())
    assert (patient.slices, patient.image_size) == (3, 16)
    assert patient.present_of("pet").tolist() == [True, True, False]
    assert [name for name, _, _ in patient] == ["pet", "mri"]
    assert np.array_equal(patient.images_of("mri"), patient.images[1])


def test_repr_shows_neither_images_nor_the_identifier() -> None:
    assert repr(Patient(**fields())) == "Patient(site='north', label=1, modalities=('pet', 'mri'))"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"patient_id": ""}, "empty id"),
        ({"label": -1}, "label must be 0 or 1, or the number of a class, got -1"),
        ({"images": np.zeros((2, 3, 16, 16), dtype=np.float32)}, "must be uint8"),
        ({"present": np.array([[1, 1, 0], [1, 1, 1]])}, "bool mask"),
        ({"images": pixels(2, 3, 16, 8)}, r"must be \(modalities, slices, size, size\)"),
        ({"images": pixels(2, 16, 16)}, r"must be \(modalities, slices, size, size\)"),
        ({"images": pixels(2, 0, 16, 16)}, r"must be \(modalities, slices, size, size\)"),
        ({"images": pixels(3, 3, 16, 16)}, "images of pet, mri must be"),
        ({"modalities": ("pet",)}, "images of pet must be"),
        ({"present": np.ones((2, 2), dtype=np.bool_)}, "mask of shape"),
        ({"present": np.ones(3, dtype=np.bool_)}, "mask of shape"),
        ({"present": np.array([[True, False, False], [True] * 3])}, "pet has pixels .* missing"),
        ({"images": pixels(2, 3, 16, 16), "present": pixels(2, 3) > 0}, "none of pet, mri"),
        ({"modalities": ("pet", "pet")}, "twice"),
    ],
)
def test_patient_refuses(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        Patient(**fields(**changes))
    assert caught.value.hint
