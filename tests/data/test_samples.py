"""A Patient refuses whatever its consumers could not use, and shows no scan."""

from typing import Any

import numpy as np
import pytest

from securefed.data.samples import Patient
from securefed.errors import DataError


def fields(**changes: Any) -> dict[str, Any]:
    present = np.array([True, True, False])
    ct = np.full((3, 16, 16), 77, dtype=np.uint8)
    ct[2] = 0
    good: dict[str, Any] = {
        "patient_id": "pseudonym-1",
        "site": "north",
        "label": 1,
        "ct": ct,
        "mri": np.full((3, 16, 16), 99, dtype=np.uint8),
        "has_ct": present,
        "has_mri": np.ones(3, dtype=np.bool_),
    }
    return good | changes


def test_patient_counts_slices_and_pixels() -> None:
    patient = Patient(**fields())
    assert (patient.slices, patient.image_size) == (3, 16)


def test_repr_shows_neither_images_nor_the_identifier() -> None:
    assert repr(Patient(**fields())) == "Patient(site='north', label=1)"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"patient_id": ""}, "empty id"),
        ({"label": 2}, "label must be 0 or 1, got 2"),
        ({"ct": np.zeros((3, 16, 16), dtype=np.float32)}, "must be uint8"),
        ({"has_ct": np.array([1, 1, 0])}, "bool mask"),
        ({"ct": np.zeros((3, 16, 8), dtype=np.uint8)}, r"must be \(slices, size, size\)"),
        ({"ct": np.zeros((16, 16), dtype=np.uint8)}, r"must be \(slices, size, size\)"),
        ({"ct": np.zeros((0, 16, 16), dtype=np.uint8)}, r"must be \(slices, size, size\)"),
        ({"has_mri": np.ones(2, dtype=np.bool_)}, "mask of shape"),
        ({"mri": np.zeros((3, 8, 8), dtype=np.uint8)}, "ct is .* but mri is"),
        ({"has_ct": np.zeros(3, dtype=np.bool_)}, "calls missing"),
        (
            {"mri": np.zeros((3, 16, 16), dtype=np.uint8), "has_mri": np.zeros(3, dtype=np.bool_)},
            "neither CT nor MRI",
        ),
    ],
)
def test_patient_refuses(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        Patient(**fields(**changes))
    assert caught.value.hint
