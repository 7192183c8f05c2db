"""The phantom keeps its promises: determinism, exact ceilings, and no clue outside the places.

Statistical tests fix the seed; their false-alarm rate over seeds stands beside each.
"""

import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from securefed.data.phantom import PhantomPatient, PhantomSpec, SiteProfile, generate
from securefed.data.phantom_scanners import ALONE, BLACK, SCANNERS
from securefed.data.phantom_settings import SHOWS
from securefed.errors import ConfigurationError

SMALL = PhantomSpec(image_size=24, missing_query=0.0, missing_context=0.0, site_shift=0.0)


def make(spec: PhantomSpec, count: int, *, site: int = 0, seed: int = 5) -> list[PhantomPatient]:
    return generate(spec, SiteProfile.draw(spec, site, seed), count, seed)


def same_images(left: PhantomPatient, right: PhantomPatient) -> bool:
    return np.array_equal(left.patient.images, right.patient.images)


def same_place(each: PhantomPatient) -> bool:
    """Whether every modality shows its finding, and all at one place."""
    everywhere = len(each.centres) == len(each.patient.modalities)
    return everywhere and len(set(each.centres.values())) == 1


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**40), site=st.integers(0, 50), count=st.integers(2, 6))
def test_a_patient_does_not_depend_on_how_many_are_made(seed: int, site: int, count: int) -> None:
    profile = SiteProfile.draw(SMALL, site, seed)
    many = generate(SMALL, profile, count, seed)
    (last,) = generate(SMALL, profile, 1, seed, first=count - 1)
    assert same_images(many[-1], last)
    assert many[-1].patient.patient_id == last.patient.patient_id


def test_other_seeds_sites_and_patients_give_other_images() -> None:
    reference = make(SMALL, 2)
    others = [reference[1], make(SMALL, 1, seed=6)[0], make(SMALL, 1, site=1)[0]]
    assert not any(same_images(reference[0], other) for other in others)
    ids = {p.patient.patient_id for p in [*reference, *others[1:]]}
    assert len(ids) == 4


def test_patients_have_the_promised_shapes() -> None:
    spec = dataclasses.replace(SMALL, slices=(3, 5), image_size=33)
    patients = make(spec, 40)
    assert {p.patient.slices for p in patients} == {3, 4, 5}
    for each in patients:
        assert each.patient.images_of("ct").shape == (each.patient.slices, 33, 33)
        for truth in (*each.evidence, each.tumour):
            assert truth.shape == (each.patient.slices,)


def test_tumour_means_both_kinds_of_evidence_at_the_same_place() -> None:
    for each in make(SMALL, 300):
        together = same_place(each)
        assert together == bool(each.patient.label) == bool(each.tumour.any())


def test_dissociated_evidence_lies_in_the_same_slices_but_apart() -> None:
    patients = [p for p in make(SMALL, 300) if p.kind == "dissociated"]
    assert len(patients) > 20
    for each in patients:
        assert np.array_equal(*each.evidence)
        rows, columns = np.subtract(each.centres["ct"][1:], each.centres["mri"][1:])
        # .39 half widths between the centres, less 2 pixels of warp and rounding.
        assert np.hypot(rows, columns) > 0.39 * 12 - 2


@pytest.mark.parametrize(("rho", "kappa"), [(0.0, 1.0), (0.5, 1.0), (0.3, 0.4)])
def test_noise_free_ceilings_hold_by_the_truth(rho: float, kappa: float) -> None:
    """Binomial intervals at z = 4: a false alarm in about 1 of 4,000 seeds for the nine checks."""
    spec = dataclasses.replace(SMALL, rho=rho, kappa=kappa, image_size=16, slices=(1, 3))
    patients = make(spec, 1500)
    label = np.array([p.patient.label for p in patients])
    ct, mri = np.array([p.evidence.any(axis=1) for p in patients]).T
    joint = np.array([same_place(p) for p in patients])
    assert np.mean(joint == label) == 1.0
    for rule, ceiling in (
        (ct, spec.single_modality_ceiling),
        (mri, spec.single_modality_ceiling),
        (ct & mri, spec.late_fusion_ceiling),
    ):
        margin = 4 * np.sqrt(ceiling * (1 - ceiling) / len(patients)) + 1e-9
        assert abs(np.mean(rule == label) - ceiling) <= margin


def test_ceilings_match_the_published_table() -> None:
    assert (
        PhantomSpec(rho=0, kappa=1).single_modality_ceiling,
        PhantomSpec(rho=0, kappa=1).late_fusion_ceiling,
        PhantomSpec(rho=0.5, kappa=1).single_modality_ceiling,
        PhantomSpec(rho=0.5, kappa=1).late_fusion_ceiling,
    ) == (0.75, 1.0, 0.625, 0.75)


@pytest.mark.parametrize("distractors", [0.0, 6.0])
def test_the_ct_of_a_mimic_is_the_ct_of_a_tumour_to_the_byte(distractors: float) -> None:
    """The draws do not depend on the settings, so the same patient can be had in every role."""
    spec = dataclasses.replace(SMALL, distractors=distractors)
    tumours = make(dataclasses.replace(spec, prevalence=1.0), 60)
    dissociated = make(dataclasses.replace(spec, prevalence=0.0, rho=1.0), 60)
    single = make(dataclasses.replace(spec, prevalence=0.0, rho=0.0, kappa=1.0), 60)
    assert {p.patient.label for p in tumours} == {1}
    ct_only = {"calcification", "haemorrhage"}
    assert {p.kind for p in single} == ct_only | {"abscess", "infarct"}
    for tumour, apart, one in zip(tumours, dissociated, single, strict=True):
        assert np.array_equal(tumour.patient.images_of("ct"), apart.patient.images_of("ct"))
        assert not np.array_equal(tumour.patient.images_of("mri"), apart.patient.images_of("mri"))
        if one.kind in ct_only:
            assert np.array_equal(tumour.patient.images_of("ct"), one.patient.images_of("ct"))
        else:
            assert np.array_equal(tumour.patient.images_of("mri"), one.patient.images_of("mri"))


def test_a_scattered_patient_has_a_tumours_spots_each_in_its_slice_elsewhere() -> None:
    tumours = make(dataclasses.replace(SMALL, prevalence=1.0), 60)
    scattered = make(dataclasses.replace(SMALL, prevalence=0.0, scattered=1.0), 60)
    for tumour, spots in zip(tumours, scattered, strict=True):
        assert (spots.kind, spots.patient.label) == ("scattered", 0)
        assert not spots.tumour.any()
        assert np.array_equal(spots.evidence, tumour.evidence)
        ct, of_tumour = (each.patient.images_of("ct") for each in (spots, tumour))
        middle, row, column = spots.centres["ct"]
        assert np.array_equal(ct[middle], of_tumour[middle])
        for number in np.flatnonzero(tumour.evidence[0]):
            here = slice(int(row) - 1, int(row) + 2), slice(int(column) - 1, int(column) + 2)
            alike = np.array_equal(ct[number][here], of_tumour[number][here])
            assert alike == (number == middle)


def test_with_scattered_patients_slices_alone_have_a_ceiling_too() -> None:
    spec = dataclasses.replace(SMALL, scattered=0.4, image_size=16, slices=(1, 3))
    patients = make(spec, 1500)
    label = np.array([p.patient.label for p in patients])
    ct, mri = np.array([p.evidence.any(axis=1) for p in patients]).T
    joint = np.array([same_place(p) for p in patients])
    for rule, ceiling in (
        (ct, spec.single_modality_ceiling),
        (ct & mri, spec.late_fusion_ceiling),
        (joint, spec.slices_alone_ceiling),
    ):
        margin = 4 * np.sqrt(ceiling * (1 - ceiling) / len(patients))
        assert abs(np.mean(rule == label) - ceiling) <= margin


def test_the_mri_place_has_the_same_law_in_tumours_and_dissociated() -> None:
    """Two-sample Kolmogorov-Smirnov, two checks at p > 1e-3: a false alarm in 1 of 500 seeds."""
    tumours = make(dataclasses.replace(SMALL, prevalence=1.0, slices=(1, 1)), 600)
    apart = make(dataclasses.replace(SMALL, prevalence=0.0, rho=1.0, slices=(1, 1)), 600)
    for axis in (1, 2):
        left = [p.centres["mri"][axis] for p in tumours[:300]]
        right = [p.centres["mri"][axis] for p in apart[300:]]
        assert len(left) == len(right) == 300
        assert stats.ks_2samp(left, right).pvalue > 1e-3


def test_evidence_is_visible_where_the_truth_says() -> None:
    spec = dataclasses.replace(SMALL, image_size=64, misregistration=0.0, prevalence=1.0)
    for each in make(spec, 40):
        centre = each.centres["ct"]
        for images in each.patient.images:
            index, row, column = centre
            spot = images[index, int(row) - 1 : int(row) + 2, int(column) - 1 : int(column) + 2]
            brain = images[index, 20:44, 20:44]
            assert spot.mean() > np.median(brain) + 25
        assert each.evidence_of("ct")[centre[0]]


@pytest.mark.parametrize("distractors", [0.0, 6.0])
def test_zero_contrast_is_a_null_control(distractors: float) -> None:
    """Without contrast the label leaves no trace: every role gives the same bytes."""
    spec = dataclasses.replace(SMALL, contrast=0.0, distractors=distractors)
    clean = make(dataclasses.replace(spec, prevalence=0.0, rho=0.0, kappa=0.0), 30)
    for prevalence, rho in ((1.0, 0.3), (0.0, 1.0), (0.0, 0.0)):
        role = dataclasses.replace(spec, prevalence=prevalence, rho=rho)
        for each, none in zip(make(role, 30), clean, strict=True):
            assert same_images(each, none)


def test_missing_modalities_come_at_their_rates_and_never_together() -> None:
    """Binomial at z = 4 twice: a false alarm in about 1 of 8,000 seeds."""
    spec = dataclasses.replace(
        SMALL, image_size=16, slices=(1, 1), missing_query=0.2, missing_context=0.3
    )
    patients = [p.patient for p in make(spec, 800)]
    for modality, rate in (("ct", 0.2), ("mri", 0.3)):
        missing = np.mean([not p.present_of(modality).any() for p in patients])
        assert abs(missing - rate) < 4 * np.sqrt(rate * (1 - rate) / 800)
    assert any(not p.present_of("ct").any() for p in patients)


def test_a_hospital_has_what_its_scanners_acquire_and_nobody_is_without_a_scan() -> None:
    spec = dataclasses.replace(
        SMALL,
        image_size=16,
        slices=(1, 1),
        missing_query=0.4,
        missing_context=0.4,
        scanners=(("ct",), ("mri",), ("mri", "ct")),
    )
    all_of_them = dataclasses.replace(spec, scanners=())
    for hospital, scanners in enumerate([{"ct"}, {"mri"}, {"ct", "mri"}, {"ct"}]):
        site = SiteProfile.draw(spec, hospital, 0)
        plain = generate(all_of_them, SiteProfile.draw(all_of_them, hospital, 0), 30, 0)
        for made, without in zip(generate(spec, site, 30, 0), plain, strict=True):
            has = {name for name, _, present in made.patient if present.any()}
            had = {name for name, _, present in without.patient if present.any()}
            assert has == (had & scanners or scanners)
            # The head behind it is the same: who acquires what does not shift the draws.
            assert made.patient.label == without.patient.label
            for name in has & had:
                assert (made.patient.images_of(name) == without.patient.images_of(name)).all()


@pytest.mark.parametrize("scanners", [(("ct",), ()), (("ct", "pet"),)])
def test_scanners_of_nothing_and_of_what_the_model_does_not_take_are_refused(
    scanners: tuple[tuple[str, ...], ...],
) -> None:
    with pytest.raises(ConfigurationError, match="phantom scanners of hospital"):
        dataclasses.replace(SMALL, scanners=scanners)


def test_sites_are_alike_without_shift_and_differ_with_it() -> None:
    def scanner(site: SiteProfile) -> tuple[object, ...]:
        return dataclasses.astuple(site)[2:]

    still = dataclasses.replace(SMALL, site_shift=0.0)
    moved = dataclasses.replace(SMALL, site_shift=1.0)
    assert scanner(SiteProfile.draw(still, 0, 1)) == scanner(SiteProfile.draw(still, 3, 1))
    profiles = [SiteProfile.draw(moved, index, 1) for index in range(200)]
    assert len({scanner(p) for p in profiles}) == 200
    for p in profiles:
        assert 0.97 <= p.ct_gain <= 1.03
        assert -4 <= p.ct_offset <= 4
        assert 0.1 <= p.mri_bias <= 0.4
        assert 0 < p.prevalence < 1


def test_a_thousand_slices_a_second_on_one_core() -> None:
    """Best of five short runs, so that a busy machine does not fail the claim."""
    spec = PhantomSpec()
    site = SiteProfile.draw(spec, 0, 0)
    best = 0.0
    for attempt in range(5):
        start = time.process_time()
        slices = sum(p.patient.slices for p in generate(spec, site, 12, attempt))
        best = max(best, slices / (time.process_time() - start))
    assert best >= 1000


@pytest.mark.parametrize(
    "changes",
    [
        {"rho": -0.1},
        {"kappa": 1.5},
        {"prevalence": float("nan")},
        {"image_size": 8},
        {"contrast": -1.0},
        {"slices": (5, 4)},
        {"slices": (0, 4)},
        {"lesion_radius": (0.2, 0.1)},
        {"lesion_radius": (0.01, 0.1)},
        {"missing_query": 0.7, "missing_context": 0.7},
        {"site_shift": 2.0},
        {"misregistration": 99.0},
    ],
)
def test_settings_out_of_range_are_refused_by_name(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=r"phantom .* must be between"):
        dataclasses.replace(SMALL, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "seed"), [(-1, 0), (1, -1)])
def test_negative_counts_and_seeds_are_refused(count: int, seed: int) -> None:
    site = SiteProfile.draw(SMALL, 0, 0)
    with pytest.raises(ConfigurationError):
        generate(SMALL, site, count, seed)


THREE = dataclasses.replace(SMALL, modalities=("ct", "mri", "pet"), image_size=16, slices=(1, 3))


def test_of_three_findings_one_is_elsewhere_or_one_is_alone() -> None:
    """Binomial intervals at z = 4: a false alarm in about 1 of 2,500 seeds for the six checks."""
    patients = make(THREE, 1500)
    label = np.array([p.patient.label for p in patients])
    assert np.array_equal(label, [same_place(p) for p in patients])
    shown = np.array([p.evidence.any(axis=1) for p in patients])  # (patients, 3)
    for rule, ceiling in (
        *((column, THREE.single_modality_ceiling) for column in shown.T),
        (shown.all(axis=1), THREE.late_fusion_ceiling),
    ):
        margin = 4 * np.sqrt(ceiling * (1 - ceiling) / len(patients)) + 1e-9
        assert abs(np.mean(rule == label) - ceiling) <= margin
    apart = [p.centres for p in patients if p.kind == "dissociated"]
    aside = [{name for name in ("mri", "pet") if each[name] != each["ct"]} for each in apart]
    assert all(len(each) == 1 for each in aside), "the others stay together"
    for name in ("mri", "pet"):
        share = np.mean([each == {name} for each in aside])
        assert abs(share - 0.5) < 4 * np.sqrt(0.25 / len(aside))


def test_nobody_lacks_two_of_three_modalities() -> None:
    spec = dataclasses.replace(THREE, missing_query=0.2, missing_context=0.3)
    lacking = np.array([~p.patient.present.any(axis=1) for p in make(spec, 800)])
    assert lacking.sum(axis=1).max() == 1
    for share, rate in zip(lacking.mean(axis=0), (0.2, 0.3, 0.3), strict=True):
        assert abs(share - rate) < 4 * np.sqrt(rate * (1 - rate) / 800)


@pytest.mark.parametrize("modality", SHOWS)
def test_every_modality_shows_its_finding_where_it_is(modality: str) -> None:
    other = "mri" if SHOWS[modality] == "core" else "ct"
    spec = PhantomSpec(
        (modality, other), 64, prevalence=1.0, missing_query=0, misregistration=0, site_shift=0
    )
    bare = dataclasses.replace(spec, contrast=0.0)

    def above(made: PhantomPatient, index: int, row: float, column: float) -> float:
        image = made.patient.images[0, index].astype(float)
        spot = image[int(row) - 1 : int(row) + 2, int(column) - 1 : int(column) + 2]
        return float(spot.mean() - np.median(image[20:44, 20:44]))

    for each, without in zip(make(spec, 20), make(bare, 20), strict=True):
        centre = each.centres[modality]
        assert above(each, *centre) > max(20, above(without, *centre) + 20)
        assert each.evidence_of(modality)[centre[0]]


@pytest.mark.parametrize(
    ("modalities", "message"), [(("ct", "x9"), "no phantoms of x9"), (("ct",), "one finding only")]
)
def test_what_phantoms_cannot_show_is_refused(modalities: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PhantomSpec(modalities)


def test_every_modality_has_a_scanner() -> None:
    assert SCANNERS.keys() == SHOWS.keys()
    assert ALONE.keys() == set(SHOWS.values())


def test_black_stays_black_at_every_gamma_that_a_site_may_have() -> None:
    gammas = [SiteProfile.draw(PhantomSpec(site_shift=1.0), n, 0).mri_gamma for n in range(50)]
    assert min(gammas) < 0.9
    assert max(gammas) > 1.1
    darkest = 255 * np.float32(BLACK) ** np.array([0.21, *gammas], np.float32)
    assert not darkest.astype(np.uint8).any()
