"""Who is much brighter or darker than the others is named, and ordinary phantoms are not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from securefed.data.outliers import outliers
from securefed.data.phantom import PhantomSpec, generate
from securefed.data.phantom_settings import SiteProfile
from securefed.data.samples import Patient


@pytest.fixture(scope="module")
def patients() -> list[Patient]:
    spec = PhantomSpec(image_size=32, site_shift=1.0)
    sites = [SiteProfile.draw(spec, number, 3) for number in range(3)]
    return [made.patient for site in sites for made in generate(spec, site, 25, seed=3)]


def with_modality(
    patient: Patient, name: str, grey: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> Patient:
    """The patient with a function of the grey values of one modality."""
    images = patient.images.copy()
    number = patient.modalities.index(name)
    images[number][images[number] > 0] = np.clip(
        grey(images[number][images[number] > 0].astype(float)),
        1,
        255,
    ).astype(np.uint8)
    return replace(patient, images=images)


def test_hospitals_that_differ_as_scanners_do_are_not_named(patients: list[Patient]) -> None:
    assert outliers(patients) == []
    assert outliers([]) == []


@pytest.mark.parametrize(
    "wrong", [lambda grey: 255 - grey / 4, lambda grey: grey / 6], ids=["inverted", "darkened"]
)
def test_a_patient_who_is_inverted_or_darkened_is_named_within_its_site(
    patients: list[Patient], wrong: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> None:
    odd = next(n for n, each in enumerate(patients) if each.present_of("mri").any() and n > 30)
    changed = list(patients)
    changed[odd] = with_modality(patients[odd], "mri", wrong)
    (line,) = outliers(changed)
    assert line.startswith(f"MRI of 1 patient of {patients[odd].site} is much brighter or darker")
    assert line.endswith(patients[odd].patient_id)


def test_a_site_in_another_window_is_named(patients: list[Patient]) -> None:
    changed = [
        with_modality(each, "ct", lambda grey: grey / 6) if each.site == "hospital-2" else each
        for each in patients
    ]
    assert any(
        line.startswith("CT of hospital-2 has a median grey of") for line in outliers(changed)
    )
    assert not any("hospital-1" in line for line in outliers(changed))


def test_of_a_few_patients_nothing_is_said(patients: list[Patient]) -> None:
    few = patients[:9]
    few[0] = with_modality(few[0], "ct", lambda grey: grey * 0 + 255)
    assert outliers(few) == []
