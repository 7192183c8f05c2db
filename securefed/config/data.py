"""Whose scans a run trains on: a manifest of real ones, or the built-in phantoms."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from securefed.config.section import Modality, Section

Scanners = Annotated[tuple[Modality, ...], Field(strict=False)]  # what a hospital acquires


class PhantomSettings(Section):
    """The built-in synthetic patients, used when `data.manifest` is not set."""

    patients: int = Field(300, ge=4, le=1_000_000, description="Training patients per hospital.")
    test_patients: int = Field(
        100, ge=2, le=1_000_000, description="Held-out patients per hospital."
    )
    contrast: float = Field(4.0, gt=0, le=20, description="Lesion contrast; higher is easier.")
    dissociated: float = Field(
        0.3,
        ge=0,
        le=1,
        description="rho: share of negatives with all findings, one of them at another place.",
    )
    single_evidence: float = Field(
        1.0, ge=0, le=1, description="kappa: share of the other negatives with one finding."
    )
    scattered: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of negatives with all findings at one place, but at another in each "
        "slice: only encoders of volumes can tell them. rho and kappa are of the others.",
    )
    distractors: float = Field(
        0.0,
        ge=0,
        le=16,
        description="Harmless spots of a patient on average, which every modality shows.",
    )
    label_noise: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="Chance of a training patient to be recorded with the other label; held-out "
        "ones have their own.",
    )
    missing_query: float = Field(
        0.05, ge=0, le=0.9, description="Share of patients without the query's modality."
    )
    missing_context: float = Field(
        0.05,
        ge=0,
        le=0.9,
        description="Share of patients without one of the context, for each of them.",
    )
    site_shift: float = Field(
        0.5, ge=0, le=1, description="How much scanners and case mix differ between hospitals."
    )
    scanners: tuple[Scanners, ...] = Field(
        (),
        strict=False,
        description="What each hospital can acquire, from the first on and over again: "
        "[[ct], [mri], [ct, mri]]; empty: every modality.",
    )


class DataSettings(Section):
    """Where the patients come from and how they are split (always by patient)."""

    manifest: Path | None = Field(
        None, strict=False, description="CSV manifest of real scans; not set: phantom patients."
    )
    partition: Literal["site", "iid", "dirichlet"] = Field(
        "iid", description="How a manifest's patients are dealt to hospitals."
    )
    dirichlet_alpha: float = Field(
        0.5, gt=0, le=1000, description="Label skew of the dirichlet partition; lower is more."
    )
    test_fraction: float = Field(
        0.25, gt=0, lt=1, description="Chance of a patient to be held out (manifest only)."
    )
    max_unusable: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Largest share of a manifest's rows that may be unusable; a run goes on "
        "without them.",
    )
    allow_duplicates: bool = Field(
        False,
        description="Train with differential privacy although some patient ids seem to be one "
        "person's; epsilon is then per id, not per person (manifest only).",
    )
    site_key: Path | None = Field(
        None,
        strict=False,
        description="File with the site's secret, which decides who is held out and who goes to "
        "which simulated hospital; not set: beside the folder of the data, FOLDER.site-key, made "
        "if it is not there (manifest only).",
    )
    phantom: PhantomSettings = PhantomSettings()
