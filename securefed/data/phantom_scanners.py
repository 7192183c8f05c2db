"""What each modality shows of a phantom: the tissues, its finding, and how a scanner takes it.

A modality is a `Scanner`: one entry of SCANNERS, beside its finding in SHOWS (phantom_settings). It
draws the body without noise and then acquires it. The appearances of findings (calcified, ringed,
how strong) are drawn for every patient, with or without the finding, from laws that do not depend
on the label: that is what makes the ceilings hold. docs/phantom.md has the tables.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from securefed.data import phantom_anatomy as anatomy
from securefed.data.phantom_anatomy import Field, Frame, Head, Place, Shape, Tissue, Values
from securefed.data.phantom_settings import SiteProfile
from securefed.data.samples import Images

WINDOW_WIDTH_HU = 80.0  # brain window: width 80, level 40, so 0..80 HU becomes 0..255
BRIGHTEST_MRI = 1.15  # of a lesion: a little above CSF on T2
BLACK = 1e-12  # of 1: no grey value, whatever the gamma (above 0.2)
HOTTEST = 1.6  # of a lesion: tumours outdo grey matter
PET_BLUR = 0.035  # half widths: about 10 mm full width at half maximum
SPECT_BLUR = 0.05  # 14 mm
# What a finding is if it is the only one: as a rule, and if it is calcified, or ringed.
ALONE = {
    "core": ("haemorrhage", "calcification"),
    "water": ("infarct", "abscess"),
    "uptake": ("seizure focus", "inflammation"),
    "flow": ("seizure", "luxury perfusion"),
    "leak": ("recent stroke", "demyelination"),
}


@dataclass(frozen=True)
class Case:
    """What a patient has: the label, the findings and how they look.

    Attributes:
        places: finding -> where it is, None where it is not.
        strength: 0..1 within the range of each lesion's change.
    """

    label: int
    places: Mapping[str, Place | None]
    shape: Shape
    calcified: bool
    ring: bool
    strength: float

    @property
    def kind(self) -> str:
        """In a word."""
        there = [finding for finding, place in self.places.items() if place]
        if len(there) == len(self.places):
            where = {place for place in self.places.values() if place}
            if len(where) > 1:
                return "dissociated"
            if where.pop().turn:
                return "scattered"
            return "calcified tumour" if self.calcified and "core" in there else "glioma"
        if not there:
            return "clean"
        (alone,) = there
        return ALONE[alone][self.calcified if alone == "core" else self.ring]


@dataclass(frozen=True)
class Body:
    """A patient before any scanner.

    Attributes:
        t2_weight: of a mixed MRI protocol, 1 is pure T2, 0 pure T1.
        contrast: factor on every lesion's change.
    """

    frame: Frame = field(repr=False)
    head: Head = field(repr=False)
    case: Case
    t2_weight: float
    contrast: float

    def between(self, low: float, high: float) -> float:
        """How strong this patient's lesions are in a range."""
        return self.contrast * (low + (high - low) * self.case.strength)

    def mass(self, image: Field, place: Place, values: Values, brightest: float) -> None:
        """Draw a ringed or solid mass into an image, in place."""
        white = values(anatomy.WHITE)
        window = anatomy.lesion_window(self.frame, place, self.case.shape)
        if self.case.ring:
            rim, fill = self.contrast * 0.35, self.between(0.1, 0.25)
        else:
            rim = fill = self.between(0.1, 0.3)
        anatomy.draw_mass(image, window, white, rim, fill, brightest)


@dataclass(frozen=True)
class Scanner:
    """How a modality is made.

    Attributes:
        draw: what it shows without noise, (slices, size, size).
        acquire: that, its frame, the site and a generator -> the images.
    """

    draw: Callable[[Body], Field]
    acquire: Callable[[Field, Frame, SiteProfile, np.random.Generator], Images]


def _draw_ct(body: Body) -> Field:
    """A core, soft in oedema or calcified; oedema where there is only water."""
    ct, case = anatomy.draw_head(body.head, lambda tissue: tissue.hu), body.case
    core, water = case.places.get("core"), case.places.get("water")
    if core:
        window = anatomy.lesion_window(body.frame, core, case.shape)
        if case.calcified:
            anatomy.draw_core(ct, window, core=body.between(20, 60), oedema=0)
        else:
            core_hu, oedema = body.between(8, 20), -body.between(8, 14)
            anatomy.draw_core(ct, window, core=core_hu, oedema=oedema)
    elif water:
        window = anatomy.lesion_window(body.frame, water, case.shape)
        anatomy.draw_core(ct, window, core=0, oedema=-body.between(8, 15))
    return ct


def _draw_mri(body: Body) -> Field:
    """A mass; a dark spot where there is only blood."""

    def values(tissue: Tissue) -> float:
        return body.t2_weight * tissue.t2 + (1 - body.t2_weight) * tissue.t1

    mri, case = anatomy.draw_head(body.head, values), body.case
    water, core = case.places.get("water"), case.places.get("core")
    if water:
        body.mass(mri, water, values, BRIGHTEST_MRI)
    elif core and case.kind == "haemorrhage":
        window = anatomy.lesion_window(body.frame, core, case.shape)
        dark = -body.contrast * 0.35
        anatomy.draw_mass(mri, window, values(anatomy.WHITE), dark, dark, BRIGHTEST_MRI)
    return mri


def _mass_of(finding: str, values: Values, brightest: float) -> Callable[[Body], Field]:
    """What shows one finding as a mass, and nothing else that is not the head's."""

    def draw(body: Body) -> Field:
        image, place = anatomy.draw_head(body.head, values), body.case.places.get(finding)
        if place:
            body.mass(image, place, values, brightest)
        return image

    return draw


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
    # Not to 0, whose powers take several times as long: this is as black.
    scaled = np.clip(magnitude, BLACK, 1, out=magnitude) ** np.float32(site.mri_gamma)
    return np.asarray(255 * scaled, dtype=np.uint8)


def _acquire_counts(
    blur: float,
) -> Callable[[Field, Frame, SiteProfile, np.random.Generator], Images]:
    """Of a tracer: noise grows with the root of the counts; then blur, and own percentiles.

    Args:
        blur: standard deviation in half widths.
    """

    def acquire(image: Field, frame: Frame, site: SiteProfile, rng: np.random.Generator) -> Images:
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        counts = image + np.float32(site.tracer_noise) * np.sqrt(image) * noise
        sigma = blur * image.shape[1] / 2
        image = ndimage.gaussian_filter(counts, (0, sigma, sigma))
        low, high = np.percentile(image[:, ::2, ::2][frame.radius[:, ::2, ::2] < 1], (0.5, 99.5))
        return np.asarray(255 * np.clip((image - low) / (high - low), 0, 1), dtype=np.uint8)

    return acquire


SCANNERS = {
    "ct": Scanner(_draw_ct, _acquire_ct),
    "mri": Scanner(_draw_mri, _acquire_mri),
    "pet": Scanner(_mass_of("uptake", lambda t: t.uptake, HOTTEST), _acquire_counts(PET_BLUR)),
    "spect": Scanner(_mass_of("flow", lambda t: t.flow, HOTTEST), _acquire_counts(SPECT_BLUR)),
    "t1": Scanner(_mass_of("leak", lambda t: t.t1, BRIGHTEST_MRI), _acquire_mri),
    "t2": Scanner(_mass_of("water", lambda t: t.t2, BRIGHTEST_MRI), _acquire_mri),
    "flair": Scanner(_mass_of("water", lambda t: t.flair, BRIGHTEST_MRI), _acquire_mri),
}
