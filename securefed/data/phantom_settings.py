"""Settings of the phantoms: what the user chooses, and how one hospital differs from another.

Everything here is public, small and hashable into a run record; no image is made here. The two
ceilings are the noise-free accuracies that the construction in securefed/data/phantom.py allows.
"""

from dataclasses import dataclass

import numpy as np

from securefed.errors import ConfigurationError
from securefed.wording import listed

# One stream of random numbers per purpose, so that sites and patients never share one.
SITE_STREAM, PATIENT_STREAM, LABEL_STREAM, DISTRACTOR_STREAM = 1, 2, 3, 4


# What a modality shows of a patient: modality -> finding.
SHOWS = {
    "ct": "core",
    "mri": "water",
    "pet": "uptake",
    "spect": "flow",
    "t1": "leak",
    "t2": "water",
    "flair": "water",
}


@dataclass(frozen=True)
class PhantomSpec:
    """What kind of phantoms to make. Everything here is public and goes into the run record.

    Attributes:
        modalities: of SHOWS, the query first; together they show two findings or more.
        image_size: edge length in pixels, 16 to 512.
        slices: fewest and most axial slices per patient.
        contrast: factor on every lesion's change against white matter; 1 is the physical table.
        rho: share of negatives with all findings, one of them at another place, 0..1.
        kappa: share of the other negatives that have one finding, 0..1.
        scattered: share of negatives with all findings at one place, but at another in each slice;
            rho and kappa are of the others, 0..1.
        prevalence: probability of a tumour, before the site moves it.
        lesion_radius: smallest and largest radius in half image widths.
        distractors: harmless spots of a patient on average, 0 to 16; every modality shows them.
        misregistration: standard deviation of the offset of each further modality from the first,
            in pixels at 64 px.
        missing_query, missing_context: probability that a patient lacks the whole first modality,
            and each of the others; nobody lacks two.
        site_shift: how far hospitals differ, 0 (not at all) to 1.
        classes: what labels tell apart: 0 for a tumour or none. Else as many of these, in order, in
            equal parts: nothing; all findings at one place; each finding alone, in order; all of
            them, one at another place. rho, kappa and scattered are of two labels.
        scanners: the modalities that each hospital acquires, from the first on and over again;
            empty for all of them everywhere. Who lacks the only one that is left has it.

    Raises:
        ConfigurationError: a value outside its range, named with the value.
    """

    modalities: tuple[str, ...] = ("ct", "mri")
    image_size: int = 64
    slices: tuple[int, int] = (6, 12)
    contrast: float = 4.0
    rho: float = 0.3
    kappa: float = 1.0
    scattered: float = 0.0
    prevalence: float = 0.5
    lesion_radius: tuple[float, float] = (0.13, 0.22)
    distractors: float = 0.0
    misregistration: float = 0.7
    missing_query: float = 0.05
    missing_context: float = 0.05
    site_shift: float = 0.5
    scanners: tuple[tuple[str, ...], ...] = ()
    classes: int = 0

    def __post_init__(self) -> None:
        self._require_modalities()
        self._require_classes()
        for name in ("rho", "kappa", "scattered", "prevalence", "site_shift"):
            require(name, getattr(self, name), 0.0, 1.0)
        for name in ("missing_query", "missing_context"):
            require(name, getattr(self, name), 0.0, 1.0)
        missing = self.missing_query + (len(self.modalities) - 1) * self.missing_context
        require("missing_query + missing_context of each", missing, 0.0, 1.0)
        for number, scanners in enumerate(self.scanners, 1):
            if not scanners or not set(scanners) <= set(self.modalities):
                raise ConfigurationError(
                    f"phantom scanners of hospital {number} are "
                    f"{listed(scanners) if scanners else 'none'}, of {listed(self.modalities)}",
                    hint="give each hospital one or more of these, or leave scanners empty",
                )
        require("image_size", self.image_size, 16, 512)
        require("contrast", self.contrast, 0.0, 100.0)
        require("distractors", self.distractors, 0.0, 16.0)
        require("misregistration", self.misregistration, 0.0, 8.0)
        require("fewest slices", self.slices[0], 1, self.slices[1])
        require("most slices", self.slices[1], self.slices[0], 64)
        require("smallest lesion_radius", self.lesion_radius[0], 0.08, self.lesion_radius[1])
        require("largest lesion_radius", self.lesion_radius[1], self.lesion_radius[0], 0.25)

    def _require_modalities(self) -> None:
        unknown = [name for name in self.modalities if name not in SHOWS]
        if unknown:
            raise ConfigurationError(
                f"there are no phantoms of {listed(unknown)}",
                hint=f"phantoms show {listed(list(SHOWS))}; of others name scans (data.manifest)",
            )
        if len(self.findings) < 2:
            raise ConfigurationError(
                f"phantoms of {listed(self.modalities)} show one finding only: there is nothing to "
                "look for in the other",
                hint="docs/phantom.md says what each modality shows",
            )

    def _require_classes(self) -> None:
        most = len(self.findings) + 3
        if self.classes not in (0, *range(2, most + 1)):
            raise ConfigurationError(
                f"phantoms of {listed(self.modalities)} have {most} classes, and {self.classes} "
                "are asked for",
                hint="name fewer (task.classes), or scans of your own (data.manifest); "
                "docs/phantom.md says what the classes show",
            )
        told = PhantomSpec.rho, PhantomSpec.kappa, PhantomSpec.scattered
        if self.classes and (self.rho, self.kappa, self.scattered) != told:
            raise ConfigurationError(
                "phantom rho, kappa and scattered divide the negatives of two labels, and with "
                "classes there are none",
                hint="leave them out (data.phantom: dissociated, single_evidence, scattered)",
            )

    @property
    def ill(self) -> float:
        """Share of patients that are not of class 0, before the site moves it."""
        return 1 - 1 / self.classes if self.classes else self.prevalence

    @property
    def findings(self) -> tuple[str, ...]:
        """What the modalities show together, in their order."""
        return tuple(dict.fromkeys(SHOWS[name] for name in self.modalities))

    def scanners_of(self, hospital: int) -> tuple[str, ...]:
        """What a hospital acquires, counted from 0."""
        return self.scanners[hospital % len(self.scanners)] if self.scanners else self.modalities

    @property
    def single_modality_ceiling(self) -> float:
        """Best noise-free accuracy from one finding in slices alone, at even prevalence."""
        alike = self.rho + (1 - self.rho) * self.kappa / len(self.findings)
        return 1 - (self.scattered + (1 - self.scattered) * alike) / 2

    @property
    def late_fusion_ceiling(self) -> float:
        """The same from "all present", places ignored."""
        return 1 - (self.scattered + (1 - self.scattered) * self.rho) / 2

    @property
    def slices_alone_ceiling(self) -> float:
        """The same from all findings and their places in each slice, whatever its neighbours."""
        return 1 - self.scattered / 2


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
    calcified_share: float  # of dense cores; the rest are soft, with oedema
    ring_share: float  # of masses; the rest are solid
    ct_gain: float
    ct_offset: float  # HU
    ct_noise: float  # HU
    ct_cupping: float  # HU
    mri_gamma: float
    mri_noise: float
    mri_bias: float  # standard deviation of the log bias field
    t2_weight: float  # 1 is pure T2, 0 pure T1
    tracer_noise: float  # of the counts of grey matter, relative
    scanners: tuple[str, ...]  # modalities that it acquires

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
            prevalence=_move_odds(spec.ill, 0.5 * shift * normal[0]),
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
            tracer_noise=0.12 * float(np.exp(0.35 * shift * normal[7])),
            scanners=spec.scanners_of(index),
        )


def _move_odds(probability: float, log_odds: float) -> float:
    odds = probability * float(np.exp(log_odds))
    return odds / (odds + 1 - probability)


def generator(seed: int, stream: int, site: int, index: int) -> np.random.Generator:
    """A fast generator for one purpose; not cryptographic, and nothing here needs to be."""
    require("seed", seed, 0, 2**63 - 1)
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(stream, site, index))
    return np.random.Generator(np.random.SFC64(sequence))
