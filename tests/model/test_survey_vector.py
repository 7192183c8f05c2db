"""The vector of a survey: what one patient changes, and what a noised sum says."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from securefed.model.survey import (
    ACQUIRED,
    CHANGED,
    GREYS,
    MODALITIES,
    TABLE,
    WORDS,
    Survey,
    of_patient,
)
from securefed.privacy.counts import STEPS

Pixels = NDArray[np.uint8] | None
PARTS = (slice(0, TABLE), slice(TABLE, TABLE + GREYS), slice(TABLE + GREYS, WORDS))


def pictures(rng: np.random.Generator) -> Iterator[Pixels]:
    """Of one grey value, of two, all black, all white, none, and of many sizes."""
    yield None
    yield np.zeros((2, 4, 4), np.uint8)
    yield np.full((1, 8, 8), 255, np.uint8)
    yield np.array([[[1, 255]]], np.uint8)
    for size in (1, 3, 32):
        yield rng.integers(0, 256, (5, size, size)).astype(np.uint8)
        yield (rng.random((40, size, size)) ** 8 * 255).astype(np.uint8)


def patients() -> Iterator[tuple[int, Pixels, Pixels]]:
    """Every label with every pair of pictures."""
    rng = np.random.default_rng(4)
    for label in (0, 1):
        for ct in pictures(rng):
            for mri in pictures(rng):
                if ct is not None or mri is not None:
                    yield label, ct, mri


def test_no_patient_changes_a_part_by_more_than_one_patient() -> None:
    assert len(PARTS) == CHANGED
    seen = 0
    for patient in patients():
        vector = of_patient(*patient)
        assert vector.shape == (WORDS,)
        assert vector.min() >= 0
        for part in PARTS:
            assert np.square(vector[part]).sum() <= STEPS**2
        # What the accountant prices: CHANGED Gaussians of sensitivity one, and no more.
        assert np.square(vector).sum() <= CHANGED * STEPS**2
        seen += 1
    assert seen > 100


def test_a_patient_counts_once_however_many_slices_it_has() -> None:
    one = np.array([[[10, 200]]], np.uint8)
    many = np.repeat(one, 500, axis=0)
    assert np.array_equal(of_patient(1, one, None), of_patient(1, many, None))
    assert of_patient(1, many, None)[PARTS[1]].sum() == STEPS


def test_the_table_says_label_and_what_was_acquired() -> None:
    ct = np.full((1, 2, 2), 40, np.uint8)
    for acquired, images in zip(ACQUIRED, ((ct, None), (None, ct), (ct, ct)), strict=True):
        survey = Survey(of_patient(1, *images) / STEPS, 0.0)
        assert survey.cell(1, acquired).value == survey.patients.value == 1
        assert survey.of_label(0).value == 0
        for modality, image in zip(MODALITIES, images, strict=True):
            there = image is not None
            assert survey.with_modality(modality).value == there
            shares = [each.value for each in survey.greys(modality) or ()]
            assert shares == ([float(place == 40 // 16) for place in range(GREYS)] if there else [])


def test_who_has_neither_label_nor_scan_is_no_patient() -> None:
    with pytest.raises(ValueError, match="label"):
        of_patient(2, np.ones((1, 1, 1), np.uint8), None)
    with pytest.raises(ValueError, match="CT or MRI"):
        of_patient(1, None, None)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """2000 draws; the share within is .95 but for .005 (one standard deviation): 4 of them."""
    rng, deviation = np.random.default_rng(7), 3.0
    truth = np.full(WORDS, 50.0)
    held = {"patients": 0, "label": 0, "cell": 0, "modality": 0}
    draws = 2000
    for _ in range(draws):
        found = Survey(truth + rng.normal(0, deviation, WORDS), deviation)
        for key, estimate, right in (
            ("patients", found.patients, 300),
            ("label", found.of_label(1), 150),
            ("cell", found.cell(0, "CT alone"), 50),
            ("modality", found.with_modality("MRI"), 200),
        ):
            held[key] += abs(estimate.value - right) <= estimate.margin
    assert all(0.93 < count / draws < 0.97 for count in held.values()), held


def test_of_a_modality_that_noise_drowns_nothing_is_said() -> None:
    assert Survey(np.zeros(WORDS), 3.0).greys("CT") is None
