"""No division puts one patient on two sides, or moves a patient because another came or went."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from securefed.config import ModelSettings, PhantomSettings
from securefed.data import partition
from securefed.data.load import Loaded, fingerprint, manifest_hospitals, phantom_hospitals
from securefed.data.phantom import PhantomSpec
from securefed.data.pseudonyms import SiteKey
from securefed.data.samples import Patient
from securefed.errors import ConfigurationError, DataError
from tests.scans import patient_of


def patient(number: int, label: int, site: str = "a") -> Patient:
    image = np.full((1, 8, 8), 9, dtype=np.uint8)
    return patient_of(f"p{number}", site, label, ct=image, mri=image)


def cohort(labels: list[int], sites: int = 3) -> list[Patient]:
    return [patient(i, label, f"site{i % sites}") for i, label in enumerate(labels)]


KEY = SiteKey(b"k" * 32)


def divide(
    patients: list[Patient],
    key: SiteKey = KEY,
    *,
    by: str = "iid",
    hospitals: int = 4,
    alpha: float = 1.0,
    test_share: float = 0.25,
    seed: int = 0,
) -> dict[str, partition.Split]:
    return partition.divide(
        patients,
        key,
        by=by,
        hospitals=hospitals,
        alpha=alpha,
        test_share=test_share,
        seed=seed,
    )


def places(sides: dict[str, partition.Split]) -> dict[str, tuple[str, str]]:
    """Patient -> hospital and side."""
    return {
        patient: (name, side)
        for name, split in sides.items()
        for side in ("train", "test")
        for patient in ids(getattr(split, side))
    }


def ids(patients: list[Patient]) -> list[str]:
    return [p.patient_id for p in patients]


LABELS = st.lists(st.integers(0, 1), min_size=6, max_size=60)
SEEDS = st.integers(0, 2**32)


WAYS = st.sampled_from(partition.WAYS)
ALPHAS = st.sampled_from([1e-3, 0.1, 1.0, 100.0])
SHARES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9])


@settings(deadline=None, max_examples=50)
@given(labels=LABELS, seed=SEEDS, by=WAYS, hospitals=st.integers(1, 6), alpha=ALPHAS, share=SHARES)
def test_every_patient_is_on_exactly_one_side_of_every_division(
    labels: list[int], seed: int, by: str, hospitals: int, alpha: float, share: float
) -> None:
    patients = cohort(labels)
    sides = divide(patients, by=by, hospitals=hospitals, alpha=alpha, test_share=share, seed=seed)
    everywhere = [p for split in sides.values() for p in ids(split.train) + ids(split.test)]
    assert sorted(everywhere) == sorted(ids(patients))
    assert len(sides) == (3 if by == "site" else hospitals)


@settings(deadline=None, max_examples=50)
@given(
    labels=LABELS,
    seed=SEEDS,
    by=WAYS,
    hospitals=st.integers(1, 6),
    alpha=ALPHAS,
    share=SHARES,
    where=st.integers(0, 59),
    label=st.integers(0, 1),
    newcomer=st.text(min_size=1, max_size=9).map(lambda text: "new " + text),
)
def test_a_patient_who_comes_or_goes_moves_nobody_else(
    labels: list[int],
    seed: int,
    by: str,
    hospitals: int,
    alpha: float,
    share: float,
    where: int,
    label: int,
    newcomer: str,
) -> None:
    """What differential privacy is about: neighbours before the division are neighbours after."""
    patients = cohort(labels)

    def where_all_are(patients: list[Patient]) -> dict[str, tuple[str, str]]:
        return places(
            divide(patients, by=by, hospitals=hospitals, alpha=alpha, test_share=share, seed=seed)
        )

    before = where_all_are(patients)
    where %= len(patients)
    fewer = where_all_are(patients[:where] + patients[where + 1 :])
    gone = patients[where].patient_id
    assert fewer == {who: place for who, place in before.items() if who != gone}
    stranger = patient(0, label, f"site{where % 3}")
    stranger = dataclasses.replace(stranger, patient_id=newcomer)
    more = where_all_are([*patients[:where], stranger, *patients[where:]])
    assert {who: place for who, place in more.items() if who != newcomer} == before


@given(labels=LABELS, seed=SEEDS)
def test_a_division_does_not_depend_on_the_order_of_the_file(labels: list[int], seed: int) -> None:
    patients = cohort(labels)
    assert places(divide(patients, seed=seed)) == places(divide(patients[::-1], seed=seed))


def test_sides_and_hospitals_are_as_large_as_asked_up_to_chance() -> None:
    """Within 4 standard deviations of a binomial: 10 counts, false alarm below 1e-3."""
    patients = cohort([0, 1] * 1000)
    sides = divide(patients, hospitals=4, test_share=0.25)
    for label in (0, 1):
        held_out = sum(p.label == label for split in sides.values() for p in split.test)
        assert abs(held_out - 250) < 4 * np.sqrt(1000 * 0.25 * 0.75)
        for split in sides.values():
            here = sum(p.label == label for p in split.train + split.test)
            assert abs(here - 250) < 4 * np.sqrt(1000 * 0.25 * 0.75)


def test_side_and_hospital_of_a_patient_are_independent() -> None:
    """Else a simulated hospital would hold out other shares; chi-square of a 4 x 2 table, 1e-3."""
    sides = divide(cohort([0, 1] * 2000), hospitals=4, test_share=0.25)
    table = [[len(split.train), len(split.test)] for split in sides.values()]
    assert chi2_contingency(table).pvalue > 1e-3


def test_small_alpha_skews_labels_and_large_alpha_does_not() -> None:
    """Mean spread of the tumour share over these 20 seeds: .41 and .06, of which .05 is chance."""
    patients = cohort([0, 1] * 200)

    def spread(alpha: float) -> float:
        shares = []
        for seed in range(20):
            sides = divide(patients, by="dirichlet", alpha=alpha, seed=seed).values()
            groups = [split.train + split.test for split in sides]
            shares.append(np.std([np.mean([p.label for p in group]) for group in groups if group]))
        return float(np.mean(shares))

    assert spread(0.1) > 0.2
    assert spread(1000.0) < 0.08


def test_other_seeds_and_other_keys_divide_otherwise() -> None:
    patients = cohort([0, 1] * 30)
    sides = [places(divide(patients, seed=seed)) for seed in range(5)]
    sides += [places(divide(patients, SiteKey(bytes([k]) * 32))) for k in range(5)]
    assert len({tuple(sorted(each.items())) for each in sides}) == 10


def test_an_id_that_occurs_twice_is_refused_without_showing_it() -> None:
    twice = [patient(77, 0), patient(1, 1), patient(77, 1)]
    for by in partition.WAYS:
        with pytest.raises(DataError, match="occurs twice") as caught:
            divide(twice, by=by)
        assert "p77" not in str(caught.value)
    with pytest.raises(DataError, match="occurs twice"):
        partition.require_disjoint([twice[:2], twice[2:]])


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
        manifest_hospitals(Loaded(cohort([0, 1] * 5), [], []), KEY, **arguments)  # type: ignore[arg-type]


def test_a_hospital_without_a_patient_to_train_on_is_refused_by_name() -> None:
    loaded = Loaded(cohort([0, 1]), [], [])
    with pytest.raises(DataError, match=r"hospital-\d.* of 3 hospitals got no patient") as caught:
        manifest_hospitals(loaded, KEY, hospitals=3, test_share=0.25, seed=0, by="iid")
    assert "another seed" in str(caught.value.hint)


def test_the_fingerprint_needs_the_key() -> None:
    patients = cohort([0, 1])
    assert fingerprint(patients, KEY) == fingerprint(patients[::-1], KEY)
    assert fingerprint(patients, KEY) != fingerprint(patients, SiteKey(b"j" * 32))


def test_a_phantom_has_the_same_side_whatever_other_hospitals_there_are() -> None:
    spec = PhantomSpec(image_size=16, slices=(1, 2))
    few, many = (phantom_hospitals(spec, n, 5, 2, seed=4).hospitals for n in (2, 3))
    assert [ids(h.train) + ids(h.test) for h in few] == [
        ids(h.train) + ids(h.test) for h in many[:2]
    ]


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
    loaded = Loaded(cohort([0, 1] * 6, sites=3), [], ["a warning of the files"])
    data = manifest_hospitals(loaded, KEY, hospitals=2, test_share=0.25, seed=0, by=by)
    assert data.warnings[0] == "a warning of the files"
    assert f"name 3 sites, which partition {by} does not look at" in data.warnings[1]
    assert loaded.warnings == ["a warning of the files"]


@pytest.mark.parametrize(("by", "sites"), [("site", 3), ("iid", 1), ("dirichlet", 1)])
def test_where_no_site_is_ignored_nothing_is_said(by: str, sites: int) -> None:
    loaded = Loaded(cohort([0, 1] * 6, sites=sites), [], [])
    data = manifest_hospitals(loaded, KEY, hospitals=2, test_share=0.25, seed=0, by=by)
    assert data.warnings == []
    assert data.key is KEY


def test_phantoms_from_the_command_and_from_a_run_lack_modalities_alike() -> None:
    spec, phantom = PhantomSpec(), PhantomSettings()
    assert spec.missing_query == phantom.missing_query
    assert spec.missing_context == phantom.missing_context
    assert spec.modalities == ModelSettings().modalities
    assert (spec.rho, spec.kappa) == (phantom.dissociated, phantom.single_evidence)
    assert (spec.contrast, spec.site_shift) == (phantom.contrast, phantom.site_shift)
