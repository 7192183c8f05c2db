"""Settings of the phantoms: what the user chooses, and how one hospital differs from another.

Everything here is public, small and hashable into a run record; no image is made here. The two
ceilings are the noise-free accuracies that the construction in securefed/data/phantom.py allows.
"""

from dataclasses import dataclass

import numpy as np

from securefed.errors import ConfigurationError

# One stream of random numbers per purpose, so that sites and patients never share one.
SITE_STREAM, PATIENT_STREAM = 1, 2


@dataclass(frozen=True)
class PhantomSpec:
    """What kind of phantoms to make. Everything here is public and goes into the run record.

    Attributes:
        image_size: edge length in pixels, 16 to 512.
        slices: fewest and most axial slices per patient.
        contrast: factor on every lesion's change against white matter; 1 is the physical table.
        rho: share of negatives with both kinds of evidence at different places, 0..1.
        kappa: share of the other negatives that have one kind of evidence, 0..1.
        prevalence: probability of a tumour, before the site moves it.
        lesion_radius: smallest and largest radius in half image widths.
        misregistration: standard deviation of the MRI's offset from the CT, in pixels at 64 px.
        missing_ct, missing_mri: probability that a patient lacks the whole modality.
        site_shift: how far hospitals differ, 0 (not at all) to 1.

    Raises:
        ConfigurationError: a value outside its range, named with the value.
    """

    image_size: int = 64
    slices: tuple[int, int] = (6, 12)
    contrast: float = 4.0
    rho: float = 0.3
    kappa: float = 1.0
    prevalence: float = 0.5
    lesion_radius: tuple[float, float] = (0.13, 0.22)
    misregistration: float = 0.7
    missing_ct: float = 0.05
    missing_mri: float = 0.05  # as data.phantom.missing_mri
    site_shift: float = 0.5

    def __post_init__(self) -> None:
        for name in ("rho", "kappa", "prevalence", "missing_ct", "missing_mri", "site_shift"):
            require(name, getattr(self, name), 0.0, 1.0)
        require("missing_ct + missing_mri", self.missing_ct + self.missing_mri, 0.0, 1.0)
        require("image_size", self.image_size, 16, 512)
        require("contrast", self.contrast, 0.0, 100.0)
        require("misregistration", self.misregistration, 0.0, 8.0)
        require("fewest slices", self.slices[0], 1, self.slices[1])
        require("most slices", self.slices[1], self.slices[0], 64)
        require("smallest lesion_radius", self.lesion_radius[0], 0.08, self.lesion_radius[1])
        require("largest lesion_radius", self.lesion_radius[1], self.lesion_radius[0], 0.25)

    @property
    def single_modality_ceiling(self) -> float:
        """Best noise-free accuracy from CT alone, or MRI alone, at even prevalence."""
        return 1 - (self.rho + (1 - self.rho) * self.kappa / 2) / 2

    @property
    def late_fusion_ceiling(self) -> float:
        """Best noise-free accuracy from "both present", places ignored, at even prevalence."""
        return 1 - self.rho / 2


def require(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigurationError(
            f"phantom {name} must be between {low:g} and {high:g}, got {value:g}",
            hint="docs/phantom.md lists every setting and its range",
        )


@dataclass(frozen=True)
class SiteProfile:
    """How one hospital's scanners and patients differ; all neutral at site_shift 0."""

    index: int
    name: str
    prevalence: float
    calcified_share: float  # of CT evidence; the rest is a soft core with oedema
    ring_share: float  # of MRI evidence; the rest is solid
    ct_gain: float
    ct_offset: float  # HU
    ct_noise: float  # HU
    ct_cupping: float  # HU
    mri_gamma: float
    mri_noise: float
    mri_bias: float  # standard deviation of the log bias field
    t2_weight: float  # 1 is pure T2, 0 pure T1

    @classmethod
    def draw(cls, spec: PhantomSpec, index: int, seed: int) -> "SiteProfile":
        """Draw hospital `index`, counted from 0; equal (spec, index, seed) give equal hospitals."""
        rng = generator(seed, SITE_STREAM, index, 0)
        shift = spec.site_shift
        normal: list[float] = rng.standard_normal(8).tolist()
        uniform: list[float] = rng.uniform(-1, 1, 4).tolist()
        return cls(
            index=index,
            name=f"hospital-{index + 1}",
            prevalence=_move_odds(spec.prevalence, 0.5 * shift * normal[0]),
            calcified_share=_move_odds(0.4, shift * normal[1]),
            ring_share=_move_odds(0.5, shift * normal[2]),
            ct_gain=1 + 0.03 * shift * uniform[0],
            ct_offset=4 * shift * uniform[1],
            ct_noise=4 * float(np.exp(0.35 * shift * normal[3])),
            ct_cupping=6 * float(np.exp(0.35 * shift * normal[4])),
            mri_gamma=float(np.exp(0.25 * shift * uniform[2])),
            mri_noise=0.03 * float(np.exp(0.35 * shift * normal[5])),
            mri_bias=float(np.clip(0.2 * np.exp(0.35 * shift * normal[6]), 0.1, 0.4)),
            t2_weight=0.85 - 0.15 * shift * (1 + uniform[3]),
        )


def _move_odds(probability: float, log_odds: float) -> float:
    odds = probability * float(np.exp(log_odds))
    return odds / (odds + 1 - probability)


def generator(seed: int, stream: int, site: int, index: int) -> np.random.Generator:
    """A fast generator for one purpose; not cryptographic, and nothing here needs to be."""
    require("seed", seed, 0, 2**63 - 1)
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(stream, site, index))
    return np.random.Generator(np.random.SFC64(sequence))
