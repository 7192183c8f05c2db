"""Synthetic heads of several modalities with known truth: the data a fresh checkout runs on.

Each modality shows one finding (a CT a dense core, an MRI the water of a mass, ...), and a patient
is a tumour patient exactly when all findings lie at the same place. Negatives have all of them, one
at another place (share `rho`), or one of them (`kappa` of the rest, in equal parts), or none. With
several classes each of these kinds is a class of its own (`PhantomSpec.classes`). The
law of an image given its finding does not depend on the label, so no single modality can pass
`single_modality_ceiling`, and no comparison of mere presence `late_fusion_ceiling`. To make
that exact, tumours and mimics draw from one common set of appearances; this is harder than reality.

The anatomy (securefed/data/phantom_anatomy.py) is a head of ellipsoid shells with folded cortex
and ventricles; the scanners (securefed/data/phantom_scanners.py) say what a modality shows of it,
and add noise, cupping and bias fields; `SiteProfile` moves all of that from hospital to hospital.
docs/phantom.md gives the tables. Never report phantom accuracy as clinical: nothing here was
measured on a person.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from securefed.data import phantom_anatomy as anatomy
from securefed.data.phantom_anatomy import Field, Frame, Place, Shape
from securefed.data.phantom_distractors import distractors
from securefed.data.phantom_scanners import SCANNERS, Body, Case
from securefed.data.phantom_settings import (
    DISTRACTOR_STREAM,
    PATIENT_STREAM,
    SHOWS,
    PhantomSpec,
    SiteProfile,
    generator,
    require,
)
from securefed.data.samples import Mask, Patient

__all__ = ["PhantomPatient", "PhantomSpec", "SiteProfile", "generate"]

EXTENT = 0.6  # the stack of slices, in half head heights
NEAREST_LESION, FURTHEST_LESION = 0.34, 0.54  # distance from the midline, head coordinates
HIGHEST_LESION = 0.40
SCATTER = float(np.pi * (3 - np.sqrt(5)))  # radians from slice to slice: no two spots are near
_DRAWS = 18  # uniform draws per patient, always all taken: settings must not shift the stream


Centre = tuple[int, float, float]  # slice index, row, column


@dataclass(frozen=True, eq=False)
class PhantomPatient:
    """A patient with the truth that the generator knows and no reader of scans would.

    The evidence describes the body: it stays set where a modality was not acquired. Centres are in
    pixels of the first modality, before the others' misregistration; none without evidence.
    """

    patient: Patient
    kind: str  # glioma, calcified tumour, dissociated, calcification, haemorrhage, abscess, ...
    evidence: NDArray[np.bool_] = field(repr=False)  # (modalities, slices)
    tumour: Mask = field(repr=False)  # (slices,)
    labels: tuple[int, ...] = field(repr=False)  # of each slice: the patient's where it shows why
    centres: Mapping[str, Centre] = field(repr=False)

    def evidence_of(self, modality: str) -> Mask:
        """(slices,) where it shows its finding."""
        evidence: Mask = self.evidence[self.patient.modalities.index(modality)]
        return evidence


def generate(
    spec: PhantomSpec, site: SiteProfile, count: int, seed: int, *, first: int = 0
) -> list[PhantomPatient]:
    """Make patients `first` .. `first + count - 1` of a hospital.

    Patient k depends on (spec, site, seed, k) only, so a larger count extends a smaller one. The
    random draws do not depend on the settings: changing `contrast` or `rho` keeps the anatomy.

    Raises:
        ConfigurationError: a negative count, first index or seed.
    """
    require("count", count, 0, 10_000_000)
    require("first patient", first, 0, 10_000_000)
    return [_make_patient(spec, site, seed, index) for index in range(first, first + count)]


def _make_patient(spec: PhantomSpec, site: SiteProfile, seed: int, index: int) -> PhantomPatient:
    rng = generator(seed, PATIENT_STREAM, site.index, index)
    draws: list[float] = rng.random(_DRAWS).tolist()
    slices = spec.slices[0] + int(draws[0] * (spec.slices[1] - spec.slices[0] + 1))
    z = np.asarray((2 * np.arange(slices) + 1) / slices - 1, np.float32) * np.float32(EXTENT)
    case = _draw_case(spec, site, z, draws[5:])
    size = spec.image_size
    rotation = float(np.deg2rad(9)) * (2 * draws[1] - 1)
    warp = np.float32(0.02) * rng.standard_normal((2, 4, 4), dtype=np.float32)
    frame = anatomy.make_frame(size, z, rotation, warp)
    t2_weight = site.t2_weight + 0.05 * (2 * draws[2] - 1)
    folds = anatomy.smooth_field(size, rng.standard_normal((slices, 20, 20), dtype=np.float32))
    own = generator(seed, DISTRACTOR_STREAM, site.index, index)
    further = distractors(frame, spec.distractors, own) if spec.distractors else ()
    head = anatomy.make_head(frame, folds, 0.75 + 0.5 * draws[4], further)
    body = Body(frame, head, case, t2_weight, spec.contrast)
    bare = [SCANNERS[name].draw(body) for name in spec.modalities]
    pixels = spec.misregistration * size / 64
    bare[1:] = [_shift(each, pixels * rng.standard_normal(2)) for each in bare[1:]]
    images = np.stack(
        [
            SCANNERS[name].acquire(each, frame, site, rng)
            for name, each in zip(spec.modalities, bare, strict=True)
        ]
    )
    has = [not draws[3] < spec.missing_query]
    for number in range(len(spec.modalities) - 1):
        above = draws[3] - spec.missing_query - number * spec.missing_context
        has.append(not 0 <= above < spec.missing_context)
    acquired = np.isin(spec.modalities, site.scanners)
    shown = acquired & has if (acquired & has).any() else acquired  # nobody is without any scan
    present = np.repeat(shown[:, None], slices, axis=1)
    images[~present] = 0
    patient = Patient(
        patient_id=f"phantom-{seed}-{site.index + 1}-{index:05d}",
        site=site.name,
        label=case.label,
        modalities=spec.modalities,
        images=images,
        present=present,
    )
    return _with_truth(patient, case, frame)


@dataclass(frozen=True)
class _Kind:
    """Which findings a patient has, and where.

    Attributes:
        together: all of them; otherwise none but `alone`.
        alone, aside: number of the finding that is the only one, or lies elsewhere.
        scattered: all of them together, but in each slice elsewhere.
    """

    label: int
    together: bool = False
    alone: int | None = None
    aside: int | None = None
    scattered: bool = False


def _of_label(spec: PhantomSpec, site: SiteProfile, first: float, second: float) -> _Kind:
    """A tumour, or one of the kinds of negatives, by two uniform numbers."""
    if first < site.prevalence:
        return _Kind(1, together=True)
    if second < spec.scattered:
        return _Kind(0, together=True, scattered=True)
    rest = (second - spec.scattered) / (1 - spec.scattered)
    count = len(spec.findings)
    if rest < spec.rho:
        # One finding lies elsewhere, each but the first by the same chance.
        return _Kind(0, together=True, aside=1 + int(rest / spec.rho * (count - 1)))
    share = (rest - spec.rho) / (1 - spec.rho)
    for i in range(count):
        if i * spec.kappa / count <= share < (i + 1) * spec.kappa / count:
            return _Kind(0, alone=i)
    return _Kind(0)


def _of_class(spec: PhantomSpec, site: SiteProfile, first: float, second: float) -> _Kind:
    """A class (`PhantomSpec.classes`), those beside 0 by the same chance."""
    if first >= site.prevalence:
        return _Kind(0)
    label = 1 + int(first / site.prevalence * (spec.classes - 1))
    count = len(spec.findings)
    if label == 1:
        return _Kind(label, together=True)
    if label < count + 2:
        return _Kind(label, alone=label - 2)
    return _Kind(label, together=True, aside=1 + int(second * (count - 1)))


def _draw_case(spec: PhantomSpec, site: SiteProfile, z: Field, draws: list[float]) -> Case:
    """Draw label, findings, places and appearance from 13 uniform numbers."""
    law = _of_class if spec.classes else _of_label
    kind = law(spec, site, *draws[:2])
    smallest, largest = spec.lesion_radius
    shape = Shape(
        radius=smallest + (largest - smallest) * draws[2],
        wobble=0.15 * draws[3],
        phase=2 * np.pi * draws[4],
    )
    candidates = z[np.abs(z) <= HIGHEST_LESION]
    height = float(candidates[int(draws[5] * len(candidates))])
    spread = FURTHEST_LESION - NEAREST_LESION
    angle = 2 * np.pi * draws[6]
    turn_by_slice = SCATTER if kind.scattered else 0.0
    place = Place(NEAREST_LESION + spread * draws[7], angle, height, turn_by_slice)
    # The other place has the same law: an independent distance, a turned uniform angle. Height and
    # shape stay the same, so that slices and sizes cannot tell dissociated from tumour.
    turn = np.pi * (2 / 3 + 2 / 3 * draws[8])
    other = Place(NEAREST_LESION + spread * draws[9], angle + turn, height)
    places: dict[str, Place | None] = {}
    for i, finding in enumerate(spec.findings):
        there = other if i == kind.aside else place
        places[finding] = there if kind.together or i == kind.alone else None
    return Case(
        label=kind.label,
        places=places,
        shape=shape,
        calcified=draws[10] < site.calcified_share,
        ring=draws[11] < site.ring_share,
        strength=draws[12],
    )


def _shift(volume: Field, offset: NDArray[np.float64]) -> Field:
    """Move (slices, size, size) by (rows, columns) pixels, linear in between, air flowing in."""
    for axis, distance in zip((1, 2), offset, strict=True):
        whole = int(np.floor(distance))
        part = np.float32(distance - whole)
        # Roll is enough: the border of every phantom is air.
        volume = (1 - part) * np.roll(volume, whole, axis) + part * np.roll(volume, whole + 1, axis)
    return volume


def _with_truth(patient: Patient, case: Case, frame: Frame) -> PhantomPatient:
    evidence = np.zeros(patient.present.shape, dtype=np.bool_)
    centres: dict[str, Centre] = {}
    for row, modality in enumerate(patient.modalities):
        place = case.places[SHOWS[modality]]
        if place:
            evidence[row] = anatomy.visible_slices(frame.z, place, case.shape)
            centres[modality] = anatomy.centre_pixel(frame, place)
    tumour = np.logical_and.reduce(evidence) & (case.label == 1)
    # What makes the class is what the patient has; a slice shows it where it shows all of that.
    has = [case.places[SHOWS[modality]] is not None for modality in patient.modalities]
    shown = np.logical_and.reduce(evidence[has]) if any(has) else tumour
    return PhantomPatient(
        patient=patient,
        kind=case.kind,
        evidence=evidence,
        tumour=tumour,
        labels=tuple((case.label * shown).tolist()),
        centres=centres,
    )
