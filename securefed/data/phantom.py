"""Synthetic paired CT-MRI heads with known truth: the data a fresh checkout runs on.

Each patient carries CT evidence (a dense core) and MRI evidence (a mass), and is a tumour patient
exactly when both lie at the same place. Negatives have both at different places (share `rho`), or
one of them (`kappa` of the rest, half each), or neither. The law of the CT image given its evidence
does not depend on the label, nor does that of the MRI image, so no single modality can pass
`single_modality_ceiling`, and no comparison of mere presence `late_fusion_ceiling`. To make
that exact, tumours and mimics draw from one common set of appearances; this is harder than reality.

The anatomy (securefed/data/phantom_anatomy.py) is a head of ellipsoid shells with folded cortex
and ventricles; the acquisition adds noise, cupping, bias fields and misregistration, and
`SiteProfile` moves all of that from hospital to hospital. docs/phantom.md gives the tables. Never
report phantom accuracy as clinical: nothing here was measured on a person.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from securefed.data import phantom_anatomy as anatomy
from securefed.data.phantom_anatomy import Field, Frame, Place, Shape
from securefed.data.phantom_settings import (
    PATIENT_STREAM,
    PhantomSpec,
    SiteProfile,
    generator,
    require,
)
from securefed.data.samples import Images, Mask, Patient

__all__ = ["PhantomPatient", "PhantomSpec", "SiteProfile", "generate"]

EXTENT = 0.6  # the stack of slices, in half head heights
NEAREST_LESION, FURTHEST_LESION = 0.34, 0.54  # distance from the midline, head coordinates
HIGHEST_LESION = 0.40
WINDOW_WIDTH_HU = 80.0  # brain window: width 80, level 40, so 0..80 HU becomes 0..255
_DRAWS = 18  # uniform draws per patient, always all taken: settings must not shift the stream


@dataclass(frozen=True, eq=False)
class PhantomPatient:
    """A patient with the truth that the generator knows and no reader of scans would.

    The evidence arrays describe the body: they stay set where a modality was not acquired.
    Centres are (slice index, row, column) in pixels of the CT, before the MRI's misregistration;
    None without evidence.
    """

    patient: Patient
    kind: str  # glioma, calcified tumour, dissociated, calcification, haemorrhage, abscess, ...
    ct_evidence: Mask = field(repr=False)  # (slices,)
    mri_evidence: Mask = field(repr=False)  # (slices,)
    tumour: Mask = field(repr=False)  # (slices,)
    ct_centre: tuple[int, float, float] | None = field(repr=False)
    mri_centre: tuple[int, float, float] | None = field(repr=False)


@dataclass(frozen=True)
class _Case:
    """What a patient has: the label, the two evidences and how they look.

    The appearances are drawn for every patient, with or without the evidence, from laws that do
    not depend on the label: that is what makes the ceilings hold.
    """

    label: int
    ct_place: Place | None
    mri_place: Place | None
    shape: Shape
    calcified: bool
    ring: bool
    strength: float  # 0..1 within the range of each lesion's change

    @property
    def kind(self) -> str:
        if self.ct_place and self.mri_place:
            if not self.label:
                return "dissociated"
            return "calcified tumour" if self.calcified else "glioma"
        if self.ct_place:
            return "calcification" if self.calcified else "haemorrhage"
        if self.mri_place:
            return "abscess" if self.ring else "infarct"
        return "clean"


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
    ct, mri = anatomy.draw_head(frame, t2_weight, folds, ventricle=0.75 + 0.5 * draws[4])
    _draw_lesions(ct, mri, frame, case, t2_weight, spec.contrast)
    mri = _shift(mri, spec.misregistration * size / 64 * rng.standard_normal(2))
    ct_images = _acquire_ct(ct, frame, site, rng)
    mri_images = _acquire_mri(mri, frame, site, rng)
    has_ct = not draws[3] < spec.missing_ct
    has_mri = not 0 <= draws[3] - spec.missing_ct < spec.missing_mri
    present = np.repeat([[has_ct], [has_mri]], slices, axis=1)
    images = np.stack([ct_images, mri_images])
    images[~present] = 0
    patient = Patient(
        patient_id=f"phantom-{seed}-{site.index + 1}-{index:05d}",
        site=site.name,
        label=case.label,
        modalities=("ct", "mri"),
        images=images,
        present=present,
    )
    return _with_truth(patient, case, frame)


def _draw_case(spec: PhantomSpec, site: SiteProfile, z: Field, draws: list[float]) -> _Case:
    """Draw label, evidence, places and appearance from 13 uniform numbers."""
    label = int(draws[0] < site.prevalence)
    dissociated = draws[1] < spec.rho
    share = (draws[1] - spec.rho) / (1 - spec.rho) if spec.rho < 1 else 1.0
    ct = bool(label or dissociated or share < spec.kappa / 2)
    mri = bool(label or dissociated or spec.kappa / 2 <= share < spec.kappa)
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
    place = Place(NEAREST_LESION + spread * draws[7], angle, height)
    # The other place has the same law: an independent distance, a turned uniform angle. Height and
    # shape stay the same, so that slices and sizes cannot tell dissociated from tumour.
    turn = np.pi * (2 / 3 + 2 / 3 * draws[8])
    other = Place(NEAREST_LESION + spread * draws[9], angle + turn, height)
    return _Case(
        label=label,
        ct_place=place if ct else None,
        mri_place=(other if dissociated and not label else place) if mri else None,
        shape=shape,
        calcified=draws[10] < site.calcified_share,
        ring=draws[11] < site.ring_share,
        strength=draws[12],
    )


def _draw_lesions(
    ct: Field, mri: Field, frame: Frame, case: _Case, t2_weight: float, contrast: float
) -> None:
    """Draw the case into noise-free images, in place, with the changes of docs/phantom.md."""
    white = anatomy.signal(anatomy.WHITE, t2_weight)

    def between(low: float, high: float) -> float:
        return contrast * (low + (high - low) * case.strength)

    if case.ct_place:
        window = anatomy.lesion_window(frame, case.ct_place, case.shape)
        if case.calcified:
            anatomy.draw_core(ct, window, core=between(20, 60), oedema=0)
        else:
            anatomy.draw_core(ct, window, core=between(8, 20), oedema=-between(8, 14))
        if case.kind == "haemorrhage":
            anatomy.draw_mass(mri, window, white, rim=-contrast * 0.35, fill=-contrast * 0.35)
    if case.mri_place:
        window = anatomy.lesion_window(frame, case.mri_place, case.shape)
        if case.ring:
            anatomy.draw_mass(mri, window, white, rim=contrast * 0.35, fill=between(0.1, 0.25))
        else:
            anatomy.draw_mass(mri, window, white, rim=between(0.1, 0.3), fill=between(0.1, 0.3))
        if not case.ct_place:
            anatomy.draw_core(ct, window, core=0, oedema=-between(8, 15))


def _shift(volume: Field, offset: NDArray[np.float64]) -> Field:
    """Move (slices, size, size) by (rows, columns) pixels, linear in between, air flowing in."""
    for axis, distance in zip((1, 2), offset, strict=True):
        whole = int(np.floor(distance))
        part = np.float32(distance - whole)
        # Roll is enough: the border of every phantom is air.
        volume = (1 - part) * np.roll(volume, whole, axis) + part * np.roll(volume, whole + 1, axis)
    return volume


def _acquire_ct(ct: Field, frame: Frame, site: SiteProfile, rng: np.random.Generator) -> Images:
    """Cupping, noise, the site's calibration error, then the brain window."""
    noise = rng.standard_normal(ct.shape, dtype=np.float32)
    noise *= np.float32(site.ct_noise)
    noise += np.float32(site.ct_cupping) * (frame.plane - np.float32(0.5))
    noise += ct
    noise *= np.float32(site.ct_gain * 255 / WINDOW_WIDTH_HU)
    noise += np.float32(site.ct_offset * 255 / WINDOW_WIDTH_HU)
    return np.clip(noise, 0, 255, out=noise).astype(np.uint8)


def _acquire_mri(mri: Field, frame: Frame, site: SiteProfile, rng: np.random.Generator) -> Images:
    """Smooth coil bias, Rician noise, then scaling by the volume's own percentiles."""
    coil = anatomy.smooth_field(mri.shape[1], rng.standard_normal((3, 3), dtype=np.float32))
    real = mri * np.exp(np.float32(site.mri_bias) * coil)
    noise = np.float32(site.mri_noise)
    real += noise * rng.standard_normal(mri.shape, dtype=np.float32)
    imaginary = noise * rng.standard_normal(mri.shape, dtype=np.float32)
    real *= real
    imaginary *= imaginary
    real += imaginary
    magnitude = np.sqrt(real, out=real)
    # Every other pixel is enough for two percentiles; the head is the foreground.
    foreground = magnitude[:, ::2, ::2][frame.radius[:, ::2, ::2] < 1]
    low, high = np.percentile(foreground, (0.5, 99.5))
    magnitude -= np.float32(low)
    magnitude *= np.float32(1 / (high - low))
    scaled = np.clip(magnitude, 0, 1, out=magnitude) ** np.float32(site.mri_gamma)
    return np.asarray(255 * scaled, dtype=np.uint8)


def _with_truth(patient: Patient, case: _Case, frame: Frame) -> PhantomPatient:
    masks: dict[str, Mask] = {}
    centres: dict[str, tuple[int, float, float] | None] = {}
    for modality, place in (("ct", case.ct_place), ("mri", case.mri_place)):
        nothing = np.zeros(patient.slices, dtype=np.bool_)
        masks[modality] = anatomy.visible_slices(frame.z, place, case.shape) if place else nothing
        centres[modality] = anatomy.centre_pixel(frame, place) if place else None
    return PhantomPatient(
        patient=patient,
        kind=case.kind,
        ct_evidence=masks["ct"],
        mri_evidence=masks["mri"],
        tumour=masks["ct"] & masks["mri"] & bool(case.label),
        ct_centre=centres["ct"],
        mri_centre=centres["mri"],
    )
