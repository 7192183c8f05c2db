"""Sums over scans: what one patient moves, and what reference follows with noise and without."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from securefed.errors import RunError
from securefed.model.likeness import KINDS
from securefed.model.patients import PatientTensors
from securefed.model.scan_sums import (
    BINS,
    EDGES,
    NUMBERS,
    SECOND,
    WORDS,
    Scans,
    means_of,
    reference_of,
)
from securefed.privacy.counts import STEPS

MODALITIES = ("ct", "mri")
RNG = np.random.default_rng(5)


def scans_of(numbers: np.ndarray, owner: Sequence[int] | None = None) -> Scans:
    """Of examples with these numbers, (examples, modalities, NUMBERS)."""
    whose = np.arange(len(numbers)) if owner is None else np.array(owner)
    counts = np.bincount(whose, minlength=1)
    return Scans(numbers, whose, STEPS // counts[whose])


def numbers(count: int, spread: float = 0.05) -> np.ndarray:
    """Of people who look alike, but for what is random."""
    mean = np.repeat([0.3, -4.0, 0.4], list(KINDS.values()))
    drawn: np.ndarray = mean + spread * RNG.normal(size=(count, 2, NUMBERS))
    return drawn


def parts(words: np.ndarray) -> np.ndarray:
    return words.reshape(len(MODALITIES), WORDS) / STEPS


@pytest.mark.parametrize("size", [0.01, 1.0, 30.0, 1e6])
def test_no_patient_moves_the_first_sum_by_more_than_it_pays_for(size: float) -> None:
    for examples in (1, 4):
        far = numbers(examples) + size * RNG.normal(size=(examples, 2, NUMBERS))
        moved = parts(scans_of(far, [0] * examples).first())
        assert (np.linalg.norm(moved[:, :NUMBERS], axis=1) <= 1).all()
        assert (moved[:, NUMBERS] == 1).all()
        assert not moved[:, NUMBERS + 1 :].any()


def test_no_patient_moves_a_histogram_of_the_second_sum_by_more_than_one() -> None:
    for size in (0.0, 0.1, 1e9):
        far = numbers(3) + size * RNG.normal(size=(3, 2, NUMBERS))
        for means in (np.zeros((2, NUMBERS)), numbers(1)[0], np.full((2, NUMBERS), 1e30)):
            moved = parts(scans_of(far, [0, 0, 0]).second(means)).reshape(2, SECOND, BINS)
            assert (np.linalg.norm(moved, axis=2) <= 1).all()
            assert (moved >= 0).all()


def test_sums_of_hospitals_are_the_sum_over_all_their_patients() -> None:
    one, other = numbers(7), numbers(5)
    both = np.concatenate([one, other])
    means = numbers(1)[0]
    for of in (Scans.first, lambda scans: scans.second(means)):
        assert np.array_equal(of(scans_of(one)) + of(scans_of(other)), of(scans_of(both)))


def test_who_lacks_a_modality_has_no_part_in_it() -> None:
    some = numbers(6)
    some[:2, 1] = np.nan
    scans = scans_of(some)
    first, second = parts(scans.first()), parts(scans.second(numbers(1)[0]))
    assert first[:, NUMBERS].tolist() == [6, 4]
    assert second.sum(axis=1).tolist() == [6 * SECOND, 4 * SECOND]
    assert np.array_equal(first[1], parts(scans_of(some[2:]).first())[1])


def test_exact_sums_give_means_and_a_threshold_that_few_are_beyond() -> None:
    many = numbers(2000)
    scans = scans_of(many)
    means = means_of(parts(scans.first()).reshape(-1), 0.0)
    assert means is not None
    assert np.allclose(means, many.mean(axis=0), atol=0.02)
    second = parts(scans.second(means)).reshape(-1)
    found = reference_of(means, second, 0.0, MODALITIES)
    assert found is not None
    assert found.arrays().keys() == {f"{m}.{kind}" for m in MODALITIES for kind in KINDS}
    fresh = numbers(2000)
    starts = np.cumsum([0, *KINDS.values()])
    for at, name in enumerate(MODALITIES):
        beyond = [
            found.distance(
                name, {k: each[at, a:b] for k, a, b in zip(KINDS, starts, starts[1:], strict=False)}
            )
            > 1
            for each in fresh
        ]
        assert np.mean(beyond) < 0.03
    assert found.distance("ct", {k: np.full(n, 2.0) for k, n in KINDS.items()}) > 1


def test_distances_below_the_first_edge_count_as_it_and_beyond_the_last_as_not_known() -> None:
    means = numbers(1)[0]
    counts = np.zeros((2, SECOND, BINS))
    counts[..., 0] = 100
    found = reference_of(means, counts.reshape(-1), 0.0, MODALITIES)
    assert found is not None
    assert 1 / found.arrays()["ct.noise"][1, 0] == pytest.approx(EDGES[0])
    assert reference_of(means, counts[..., ::-1].reshape(-1), 0.0, MODALITIES) is None


def test_too_few_patients_for_the_noise_give_no_reference() -> None:
    scans = scans_of(numbers(50))
    first, deviation = parts(scans.first()).reshape(-1), 6.0
    assert means_of(first, deviation) is None
    means = means_of(first, 0.0)
    assert means is not None
    second = parts(scans.second(means)).reshape(-1)
    assert reference_of(means, second, deviation, MODALITIES) is None
    assert means_of(np.zeros_like(first), 0.0) is None


def test_means_of_another_shape_or_that_are_no_numbers_are_refused() -> None:
    scans = scans_of(numbers(3))
    for means in (np.zeros((1, NUMBERS)), np.full((2, NUMBERS), np.inf)):
        with pytest.raises(RunError, match="means of scans"):
            scans.second(means)


def test_scans_are_those_of_the_tensors_by_patient() -> None:
    images = torch.randint(0, 255, (3, 2, 2, 16, 16), dtype=torch.uint8)
    present = torch.ones(3, 2, 2, dtype=torch.bool)
    present[1, 1] = False
    group = PatientTensors(
        MODALITIES, images, present, torch.zeros(3), owner=torch.tensor([4, 4, 9])
    )
    scans = Scans.of(group)
    assert scans.patient.tolist() == [0, 0, 1]
    assert scans.shares.tolist() == [64, 64, 128]
    assert np.isnan(scans.numbers[1, 1]).all()
    assert np.isfinite(scans.numbers[0]).all()
    assert parts(scans.first())[:, NUMBERS].tolist() == [2, 1.5]
