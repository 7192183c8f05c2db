"""Wrong labels of training phantoms: as many as stated, nobody else's, and no picture changes."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from securefed.config import Settings
from securefed.data.load import HospitalData, phantom_hospitals
from securefed.data.phantom import PhantomSpec
from securefed.data.samples import Patient
from securefed.errors import ConfigurationError
from securefed.simulation.patients import load_data

SPEC = PhantomSpec(image_size=16, slices=(1, 2))


def hospitals(label_noise: float, count: int = 200) -> list[HospitalData]:
    return list(phantom_hospitals(SPEC, 2, count, 40, 3, label_noise=label_noise).hospitals)


def labels(patients: Sequence[Patient]) -> list[int]:
    return [each.label for each in patients]


def test_only_labels_of_training_patients_differ() -> None:
    for true, noised in zip(hospitals(0.0), hospitals(0.2), strict=True):
        assert labels(noised.test) == labels(true.test)
        assert labels(noised.train) != labels(true.train)
        for one, other in zip(
            [*true.train, *true.test], [*noised.train, *noised.test], strict=True
        ):
            assert one.patient_id == other.patient_id
            assert np.array_equal(one.images, other.images)


def test_as_many_are_wrong_as_stated() -> None:
    wrong = np.concatenate(
        [
            np.not_equal(labels(true.train), labels(noised.train))
            for true, noised in zip(hospitals(0.0, 400), hospitals(0.2, 400), strict=True)
        ]
    )
    # 800 coins: 4 standard deviations, so that a right generator fails once in 16,000 seeds.
    assert abs(wrong.mean() - 0.2) < 4 * math.sqrt(0.2 * 0.8 / len(wrong))
    first, second = np.split(wrong, 2)
    assert not np.array_equal(first, second)  # hospitals err by themselves


def test_who_is_wrong_at_a_share_is_wrong_at_a_larger_one() -> None:
    true, few, many = (labels(hospitals(share)[0].train) for share in (0.0, 0.1, 0.3))
    assert set(np.flatnonzero(np.not_equal(true, few))) < set(
        np.flatnonzero(np.not_equal(true, many))
    )


def test_a_run_trains_on_them() -> None:
    asked = {"patients": 30, "test_patients": 4}
    runs = [
        load_data(Settings.model_validate({"data": {"phantom": asked | {"label_noise": share}}}))
        for share in (0.0, 0.3)
    ]
    true, noised = (labels(each.hospitals[0].train) for each in runs)
    assert 0 < np.not_equal(true, noised).sum() < 20
    assert runs[0].fingerprint != runs[1].fingerprint


@pytest.mark.parametrize("task", [{"example": "slice"}, {"classes": ["healthy", "core", "both"]}])
def test_labels_that_it_is_not_of_are_refused(task: dict[str, object]) -> None:
    asked = {"task": task, "data": {"phantom": {"label_noise": 0.1}}}
    with pytest.raises((ConfigurationError, ValueError), match="label_noise: is of patients"):
        Settings.model_validate(asked)
