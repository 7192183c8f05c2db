"""survey.json: what a survey said of all hospitals together, every number with its interval.

Nothing in it is about one hospital. `epsilon` is null where the noise follows from a seed, which
whoever has it removes.
"""

from typing import ClassVar

import msgspec

from securefed.model.survey import GREYS, LABELS, Estimate, Survey
from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import Noise
from securefed.record.json_file import SCHEMA, JsonFile, Schema

WIDTH = 256 // GREYS


class Number(msgspec.Struct, frozen=True):
    """A number of patients, or a share: 95 per cent of draws of the noise are within."""

    value: float
    low: float
    high: float


class Greys(msgspec.Struct, frozen=True):
    """A bin of grey values, 0 to 255, both included, and its share of a patient's pixels."""

    modality: str
    first: int
    last: int
    share: Number


class SurveyFile(JsonFile, msgspec.Struct, frozen=True, kw_only=True):
    """The content of survey.json.

    Attributes:
        run: its identity, as in the ledgers.
        simulation: what the patients are, if not people with scans of their own.
        epsilon: that it cost every patient; in each hospital's ledger.
        noise_from: hospitals whose noise together does that.
        deviation: standard deviation of the noise of one count, patients.
        modalities, acquired: what there may be, alone and together.
        labels: what labels are called, from 0 on.
        patients: keys "all", of labels, of modalities, and "tumour, CT alone" and the like.
        greys: of pixels that are not black; none of a modality where noise leaves nobody with it.
    """

    NAME: ClassVar[str] = "survey.json"
    schema: Schema = SCHEMA

    run: str
    hospitals: tuple[str, ...]
    simulation: str | None
    epsilon: float | None
    delta: float
    accountant: Accountant
    privacy_unit: str
    noise: Noise
    noise_from: int
    deviation: float
    modalities: tuple[str, ...]
    acquired: tuple[str, ...]
    labels: tuple[str, ...] = LABELS
    patients: dict[str, Number]
    greys: tuple[Greys, ...]


def numbers(survey: Survey) -> dict[str, Number]:
    """Every number of patients."""
    found = {"all": survey.patients}
    labels = list(enumerate(survey.form.labels))
    found |= {name: survey.of_label(label) for label, name in labels}
    found |= {modality: survey.with_modality(modality) for modality in survey.form.modalities}
    found |= {
        f"{name}, {acquired}": survey.cell(label, acquired)
        for label, name in labels
        for acquired in survey.form.acquired
    }
    return {key: _number(each) for key, each in found.items()}


def greys(survey: Survey) -> tuple[Greys, ...]:
    """The shares of grey values."""
    return tuple(
        Greys(modality, place * WIDTH, (place + 1) * WIDTH - 1, _number(share))
        for modality in survey.form.modalities
        for place, share in enumerate(survey.greys(modality) or ())
    )


def _number(estimate: Estimate) -> Number:
    # No count is negative: what is below is noise.
    low, high = estimate.value - estimate.margin, estimate.value + estimate.margin
    return Number(*(max(each, 0.0) for each in (estimate.value, low, high)))
