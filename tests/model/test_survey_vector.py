"""The vector of a survey: what one patient changes, and what a noised sum says."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from securefed.model.survey import GREYS, Form, Survey
from securefed.privacy.counts import STEPS

Pixels = NDArray[np.uint8] | None
WHOLE = "CT, MRI and PET"
PAIR, THREE = Form.of(("ct", "mri")), Form.of(("ct", "mri", "pet"))


def parts(form: Form) -> list[slice]:
    """The table, and the grey values of each modality."""
    ends = [form.table + GREYS * k for k in range(len(form.modalities) + 1)]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def pictures(rng: np.random.Generator) -> Iterator[Pixels]:
    """Of one grey value, of two, all black, all white, none, and of many sizes."""
    yield None
    yield np.zeros((2, 4, 4), np.uint8)
    yield np.full((1, 8, 8), 255, np.uint8)
    yield np.array([[[1, 255]]], np.uint8)
    for size in (1, 3, 32):
        yield rng.integers(0, 256, (5, size, size)).astype(np.uint8)
        yield (rng.random((40, size, size)) ** 8 * 255).astype(np.uint8)


@pytest.mark.parametrize("form", [PAIR, THREE])
def test_no_patient_changes_a_part_by_more_than_one_patient(form: Form) -> None:
    assert len(parts(form)) == form.changed == 1 + len(form.modalities)
    rng, seen = np.random.default_rng(4), 0
    for scans in itertools.product(*(list(pictures(rng)) for _ in form.modalities)):
        if all(each is None for each in scans):
            continue
        vector = form.of_patient(seen % 2, scans)
        assert vector.shape == (form.words,)
        assert vector.min() >= 0
        for part in parts(form):
            assert np.square(vector[part]).sum() <= STEPS**2
        # What the accountant prices: so many Gaussians of sensitivity one, and no more.
        assert np.square(vector).sum() <= form.changed * STEPS**2
        seen += 1
    assert seen >= 99


def test_a_patient_counts_once_however_many_slices_it_has() -> None:
    one = np.array([[[10, 200]]], np.uint8)
    many = np.repeat(one, 500, axis=0)
    assert np.array_equal(PAIR.of_patient(1, [one, None]), PAIR.of_patient(1, [many, None]))
    assert PAIR.of_patient(1, [many, None])[parts(PAIR)[1]].sum() == STEPS


def test_the_table_says_label_and_what_was_acquired() -> None:
    assert PAIR.acquired == ("CT alone", "MRI alone", "CT and MRI")
    assert THREE.acquired[2:] == ("CT and MRI", "PET alone", "CT and PET", "MRI and PET", WHOLE)
    ct = np.full((1, 2, 2), 40, np.uint8)
    for number, acquired in enumerate(THREE.acquired, start=1):
        images = [ct if number >> k & 1 else None for k in range(3)]
        survey = Survey(THREE, THREE.of_patient(1, images) / STEPS, 0.0)
        assert survey.cell(1, acquired).value == survey.patients.value == 1
        assert survey.of_label(0).value == 0
        for modality, image in zip(THREE.modalities, images, strict=True):
            there = image is not None
            assert survey.with_modality(modality).value == there
            shares = [each.value for each in survey.greys(modality) or ()]
            assert shares == ([float(place == 40 // 16) for place in range(GREYS)] if there else [])


def test_who_has_neither_label_nor_scan_is_no_patient() -> None:
    with pytest.raises(ValueError, match="label"):
        PAIR.of_patient(2, [np.ones((1, 1, 1), np.uint8), None])
    with pytest.raises(ValueError, match="a scan"):
        PAIR.of_patient(1, [None, None])


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """2000 draws; the share within is .95 but for .005 (one standard deviation): 4 of them."""
    rng, deviation = np.random.default_rng(7), 3.0
    truth = np.full(PAIR.words, 50.0)
    held = {"patients": 0, "label": 0, "cell": 0, "modality": 0}
    draws = 2000
    for _ in range(draws):
        found = Survey(PAIR, truth + rng.normal(0, deviation, PAIR.words), deviation)
        for key, estimate, right in (
            ("patients", found.patients, 300),
            ("label", found.of_label(1), 150),
            ("cell", found.cell(0, "CT alone"), 50),
            ("modality", found.with_modality("MRI"), 200),
        ):
            held[key] += abs(estimate.value - right) <= estimate.margin
    assert all(0.93 < count / draws < 0.97 for count in held.values()), held


def test_of_a_modality_that_noise_drowns_nothing_is_said() -> None:
    assert Survey(PAIR, np.zeros(PAIR.words), 3.0).greys("CT") is None
