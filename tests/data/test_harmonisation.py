"""Grey values on a standard scale: by each scan alone, in order, and other scanners look alike."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securefed.data.harmonisation import harmonised, landmarks, standard
from securefed.data.load import manifest_hospitals, phantom_hospitals
from securefed.data.phantom import generate
from securefed.data.phantom_settings import SHOWS, PhantomSpec, SiteProfile
from securefed.data.samples import Patient

SPEC = PhantomSpec(("ct", "mri", "pet"), 32, missing_query=0.1, missing_context=0.1, site_shift=1.0)


def phantoms(hospital: int, count: int = 12) -> list[Patient]:
    made = generate(SPEC, SiteProfile.draw(SPEC, hospital, 0), count, 0)
    return [each.patient for each in made]


def test_each_scan_goes_by_itself_alone() -> None:
    """What a patient becomes does not depend on who else there is: nothing is learnt."""
    patients = phantoms(0)
    together = harmonised(patients)
    for patient, changed in zip(patients, together, strict=True):
        (alone,) = harmonised([patient])
        assert (alone.images == changed.images).all()
        for modality in SPEC.modalities:  # nor on the patient's other modalities
            only = np.array([name == modality for name in SPEC.modalities])
            present = patient.present & only[:, None]
            if present.any():
                images = np.where(present[..., None, None], patient.images, np.uint8(0))
                (one,) = harmonised([replace(patient, images=images, present=present)])
                assert (one.images_of(modality) == changed.images_of(modality)).all()


def test_ct_is_left_and_so_is_everything_but_grey_values() -> None:
    for patient, changed in zip(phantoms(1), harmonised(phantoms(1)), strict=True):
        assert (changed.images_of("ct") == patient.images_of("ct")).all()
        assert (changed.present == patient.present).all()
        assert not changed.images[~changed.present].any()
        assert (changed.patient_id, changed.label, changed.site) == (
            patient.patient_id,
            patient.label,
            patient.site,
        )


@given(
    values=st.lists(st.integers(0, 255), min_size=1, max_size=64),
    modality=st.sampled_from(["mri", "pet", "t1c"]),
)
@settings(max_examples=100, deadline=None)
def test_what_was_brighter_is_never_darker_after(values: list[int], modality: str) -> None:
    row = np.zeros(64, np.uint8)
    row[: len(values)] = values
    patient = Patient("p", "s", 0, (modality,), row.reshape(1, 1, 8, 8), np.ones((1, 1), np.bool_))
    after = harmonised([patient])[0].images.reshape(-1)[np.argsort(row, kind="stable")]
    assert (np.diff(after.astype(int)) >= 0).all()
    assert (after[np.sort(row) == 0] == 0).all()
    assert (after[np.sort(row) == 255] == 255).all()


@pytest.mark.parametrize("modality", sorted(set(SHOWS) - {"ct"}))
def test_the_deciles_of_a_scan_are_those_of_the_standard_scale(modality: str) -> None:
    partner = next(other for other in SHOWS if SHOWS[other] != SHOWS[modality])
    spec = PhantomSpec((modality, partner), 64, missing_query=0, missing_context=0, site_shift=1.0)
    made = generate(spec, SiteProfile.draw(spec, 3, 1), 4, 1)
    for patient in (each.patient for each in made):
        images = patient.images_of(modality)
        chosen = images > images.mean()  # the same places before and after
        (after,) = harmonised([patient])
        found = np.quantile(after.images_of(modality)[chosen], (0.1, 0.3, 0.5, 0.7, 0.9))
        np.testing.assert_allclose(found, standard(modality)[[1, 3, 5, 7, 9]], atol=3)


def test_scanners_differ_less_afterwards() -> None:
    """Hospitals' mean landmarks of MRI, before and after: the spread over hospitals shrinks."""

    def spread(change: bool) -> float:
        means = []
        for hospital in range(6):
            patients = harmonised(phantoms(hospital)) if change else phantoms(hospital)
            scans = [(p.images_of("mri"), p.present_of("mri")) for p in patients]
            means.append(np.mean([landmarks(i[has]) for i, has in scans if has.any()], axis=0))
        return float(np.std(means, axis=0).mean())

    assert spread(change=True) < spread(change=False) / 2


def test_hospitals_are_harmonised_and_their_fingerprint_is_of_what_was_read() -> None:
    plain, changed = (
        phantom_hospitals(SPEC, 2, 4, 2, 0, harmonise=harmonise) for harmonise in (False, True)
    )
    assert plain.fingerprint == changed.fingerprint
    for before, after in zip(plain.hospitals, changed.hospitals, strict=True):
        for sides in ((before.train, after.train), (before.test, after.test)):
            for expected, got in zip(harmonised(sides[0]), sides[1], strict=True):
                assert (got.images == expected.images).all()


def test_a_manifest_s_patients_are_too() -> None:
    from securefed.data.load import Loaded
    from securefed.data.pseudonyms import PHANTOM_KEY

    loaded = Loaded(phantoms(0) + phantoms(1), [], [])
    plain, changed = (
        manifest_hospitals(
            loaded, PHANTOM_KEY, hospitals=2, test_share=0.3, seed=0, by="site", harmonise=harmonise
        )
        for harmonise in (False, True)
    )
    for before, after in zip(plain.hospitals, changed.hospitals, strict=True):
        for expected, got in zip(harmonised(before.train), after.train, strict=True):
            assert (got.images == expected.images).all()
    assert plain.fingerprint == changed.fingerprint
