"""No division ever puts one patient on two sides."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securefed.config import PhantomSettings
from securefed.data import partition
from securefed.data.load import Loaded, fingerprint, manifest_hospitals, phantom_hospitals
from securefed.data.phantom import PhantomSpec
from securefed.data.samples import Patient
from securefed.errors import ConfigurationError, DataError


def patient(number: int, label: int, site: str = "a") -> Patient:
    image = np.full((1, 8, 8), 9, dtype=np.uint8)
    present = np.ones(1, dtype=np.bool_)
    return Patient(f"p{number}", site, label, image, image, present, present)


def cohort(labels: list[int], sites: int = 3) -> list[Patient]:
    return [patient(i, label, f"site{i % sites}") for i, label in enumerate(labels)]


def ids(patients: list[Patient]) -> list[str]:
    return [p.patient_id for p in patients]


LABELS = st.lists(st.integers(0, 1), min_size=6, max_size=60)
SEEDS = st.integers(0, 2**32)


@settings(deadline=None)
@given(
    labels=LABELS,
    seed=SEEDS,
    by=st.sampled_from(partition.WAYS),
    hospitals=st.integers(1, 6),
    alpha=st.sampled_from([1e-3, 0.1, 1.0, 100.0]),
    test_share=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]),
)
def test_every_patient_is_on_exactly_one_side_of_every_division(
    labels: list[int], seed: int, by: str, hospitals: int, alpha: float, test_share: float
) -> None:
    loaded = Loaded(cohort(labels), [], [], "")
    left = len(partition.split(loaded.patients, test_share, seed=seed).train)
    if by == "iid" and left < hospitals:
        with pytest.raises(DataError, match=f"{left} patients are left to train on"):
            manifest_hospitals(loaded, hospitals=hospitals, test_share=test_share, seed=seed, by=by)
        return
    data = manifest_hospitals(
        loaded, hospitals=hospitals, test_share=test_share, seed=seed, by=by, alpha=alpha
    )
    everywhere = [p for h in data.hospitals for side in (h.train, h.test) for p in ids(side)]
    assert sorted(everywhere) == sorted(ids(loaded.patients))
    assert len(data.hospitals) == (3 if by == "site" else hospitals)
    assert data.fingerprint == fingerprint(loaded.patients)


@given(labels=LABELS, seed=SEEDS, share=st.floats(0.01, 0.99))
def test_splits_are_stratified(labels: list[int], seed: int, share: float) -> None:
    split = partition.split(cohort(labels), share, seed=seed)
    for label in (0, 1):
        total = labels.count(label)
        held_out = sum(p.label == label for p in split.test)
        assert abs(held_out - share * total) <= 1
        if total > 1:
            assert 0 < held_out < total


@given(labels=LABELS, seed=SEEDS)
def test_a_division_does_not_depend_on_the_order_of_the_file(labels: list[int], seed: int) -> None:
    patients = cohort(labels)
    forward = partition.split(patients, 0.3, seed=seed)
    backward = partition.split(patients[::-1], 0.3, seed=seed)
    assert ids(forward.test) == ids(backward.test)


@given(labels=LABELS, hospitals=st.integers(1, 6))
def test_iid_hospitals_differ_by_one_patient_at_most(labels: list[int], hospitals: int) -> None:
    groups = partition.iid(cohort(labels), hospitals, seed=0)
    for counts in (list(map(len, groups)), [sum(p.label for p in g) for g in groups]):
        assert max(counts) - min(counts) <= 1


def test_small_alpha_skews_labels_and_large_alpha_does_not() -> None:
    """Mean spread of the tumour share over these 20 seeds: .41 and .009."""
    patients = cohort([0, 1] * 200)

    def spread(alpha: float) -> float:
        shares = [
            np.std([np.mean([p.label for p in group]) for group in groups])
            for groups in (
                partition.dirichlet(patients, 4, alpha=alpha, seed=seed) for seed in range(20)
            )
        ]
        return float(np.mean(shares))

    assert spread(0.1) > 0.2
    assert spread(1000.0) < 0.05


def test_other_seeds_divide_otherwise() -> None:
    patients = cohort([0, 1] * 30)
    tests = {tuple(ids(partition.split(patients, 0.3, seed=seed).test)) for seed in range(5)}
    assert len(tests) == 5


def test_an_id_that_occurs_twice_is_refused_without_showing_it() -> None:
    twice = [patient(77, 0), patient(1, 1), patient(77, 1)]
    for divide in (
        lambda: partition.split(twice, 0.5, seed=0),
        lambda: partition.iid(twice, 2, seed=0),
        lambda: partition.dirichlet(twice, 2, alpha=1.0, seed=0),
        lambda: partition.by_site(twice),
        lambda: partition.require_disjoint([twice[:2], twice[2:]]),
    ):
        with pytest.raises(DataError, match="occurs twice") as caught:
            divide()
        assert "p77" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"by": "random"}, "unknown partition 'random'"),
        ({"hospitals": 0}, "hospitals must be at least 1"),
        ({"by": "dirichlet", "alpha": 0.0}, "alpha must be between"),
        ({"by": "dirichlet", "alpha": float("nan")}, "alpha must be between"),
        ({"test_share": 1.0}, "test_share must be"),
        ({"test_share": -0.1}, "test_share must be"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], reason: str) -> None:
    arguments = {"hospitals": 2, "test_share": 0.3, "seed": 0, "by": "iid"} | settings
    with pytest.raises(ConfigurationError, match=reason):
        manifest_hospitals(Loaded(cohort([0, 1] * 5), [], [], ""), **arguments)  # type: ignore[arg-type]


def test_more_hospitals_than_patients_are_refused() -> None:
    with pytest.raises(DataError, match="2 patients cannot be divided among 3"):
        partition.iid(cohort([0, 1]), 3, seed=0)


def test_phantom_hospitals_hold_whole_distinct_patients() -> None:
    spec = PhantomSpec(image_size=16, slices=(1, 2))
    data = phantom_hospitals(spec, 3, 5, 2, seed=4)
    assert [(h.name, len(h.train), len(h.test)) for h in data.hospitals] == [
        ("hospital-1", 5, 2),
        ("hospital-2", 5, 2),
        ("hospital-3", 5, 2),
    ]
    everyone = {p for h in data.hospitals for side in (h.train, h.test) for p in ids(side)}
    assert len(everyone) == 21
    assert data.fingerprint == phantom_hospitals(spec, 3, 5, 2, seed=4).fingerprint
    assert data.fingerprint != phantom_hospitals(spec, 3, 5, 2, seed=5).fingerprint
    with pytest.raises(ConfigurationError, match="hospitals must be at least 1, got 0"):
        phantom_hospitals(spec, 0, 5, 2, seed=4)


@pytest.mark.parametrize("by", ["iid", "dirichlet"])
def test_dealing_patients_without_regard_to_their_sites_is_said(by: str) -> None:
    loaded = Loaded(cohort([0, 1] * 6, sites=3), [], ["a warning of the files"], "")
    data = manifest_hospitals(loaded, hospitals=2, test_share=0.25, seed=0, by=by)
    assert data.warnings[0] == "a warning of the files"
    assert f"name 3 sites, which partition {by} does not look at" in data.warnings[1]
    assert loaded.warnings == ["a warning of the files"]


@pytest.mark.parametrize(("by", "sites"), [("site", 3), ("iid", 1), ("dirichlet", 1)])
def test_where_no_site_is_ignored_nothing_is_said(by: str, sites: int) -> None:
    loaded = Loaded(cohort([0, 1] * 6, sites=sites), [], [], "")
    assert manifest_hospitals(loaded, hospitals=2, test_share=0.25, seed=0, by=by).warnings == []


def test_phantoms_from_the_command_and_from_a_run_lack_modalities_alike() -> None:
    spec, phantom = PhantomSpec(), PhantomSettings()
    assert (spec.missing_ct, spec.missing_mri) == (phantom.missing_ct, phantom.missing_mri)
    assert (spec.rho, spec.kappa) == (phantom.dissociated, phantom.single_evidence)
    assert (spec.contrast, spec.site_shift) == (phantom.contrast, phantom.site_shift)
