"""evaluation.json: how a model does on labelled patients that it has not seen, with intervals."""

from typing import ClassVar

import msgspec

from securefed.record.json_file import SCHEMA, JsonFile, Schema
from securefed.record.summary import Confusion

Interval = tuple[float, float]  # 95%


class Rate(msgspec.Struct, frozen=True):
    """A share of patients with its interval; null of nobody."""

    value: float | None
    ci95: Interval | None


class OperatingPoint(msgspec.Struct, frozen=True):
    """Patients of at least this probability are called positive.

    Attributes:
        rule: how the threshold was chosen. Where that was by one of the rates, on the patients it
            is measured on, the interval of the other covers the choice too.
    """

    rule: str
    threshold: float
    sensitivity: Rate
    specificity: Rate


class Bin(msgspec.Struct, frozen=True):
    """Patients of about the same probability, of a reliability diagram.

    Attributes:
        patients: parts of them, where labels are of studies or slices.
        predicted: their mean probability, as the network gives it.
        calibrated: the same by the model's temperature; null where it has none.
        observed: the share of positives among them, with its interval.
    """

    patients: int | float
    predicted: float
    calibrated: float | None
    observed: float
    ci95: Interval


class NetBenefit(msgspec.Struct, frozen=True):
    """A point of a decision curve (Vickers and Elkin 2006), per patient; treating nobody is 0.

    Attributes:
        threshold: the probability from which somebody would treat.
        model: net benefit of treating those that the model puts at or above it.
        treat_all: of treating everybody.
    """

    threshold: float
    model: float
    ci95: Interval
    treat_all: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How a model does on some patients.

    Attributes:
        auc, auc_ci95: area under the ROC curve (Newcombe's interval).
        roc: corners, as (false-positive rate, true-positive rate).
        confusion: at probability one half.
        calibration_error: expected calibration error over `reliability` (Naeini et al. 2015) of the
            network's own probabilities.
        calibrated_error: of calibrated ones; null where the model has no temperature.
        decision_curve: of calibrated probabilities, or of the network's own where
            `calibrated_error` is null.
    """

    auc: float
    auc_ci95: Interval
    roc: tuple[tuple[float, float], ...]
    confusion: Confusion
    operating_points: tuple[OperatingPoint, ...]
    reliability: tuple[Bin, ...]
    calibration_error: float
    calibrated_error: float | None
    decision_curve: tuple[NetBenefit, ...]


class AtThresholds(msgspec.Struct, frozen=True, kw_only=True):
    """What a run's counts of held-out patients say of thresholds; attributes as in `Figures`.

    Attributes:
        operating_points: but for that at probability one half, which the run has as it is.
    """

    operating_points: tuple[OperatingPoint, ...]
    reliability: tuple[Bin, ...]
    decision_curve: tuple[NetBenefit, ...]


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """All patients, or those who have something in common.

    Attributes:
        column: "all", "site", "modalities" (which of the model's they have), or one of the
            manifest's that was asked for.
        patients, positives: how many, and how many of them have a positive example; of a group that
            is withheld, null.
        figures: null where withheld.
        withheld: too few patients of a label to say anything, or to say it of nobody in particular;
            or another group of too few could be worked out from this one.
    """

    column: str
    value: str
    patients: int | None
    positives: int | None
    figures: Figures | None
    withheld: bool


class EvaluationFile(JsonFile, msgspec.Struct, frozen=True, kw_only=True):
    """The content of evaluation.json.

    Attributes:
        model: SHA-256 of the model's file.
        data: digest of what the manifest says and of which files it names.
        privacy, cautions: of the model, in words.
        trained: how many of the patients trained the model, and are in the figures because that
            was asked for; null where it cannot be told.
        trained_told: what that was told from, or why it cannot be.
        unlike: how many of the patients have scans unlike those of the training; they are in the
            figures, and a group of their own. Null where the model does not know.
        groups: all patients first.
        problems: lines and images that could not be used.
    """

    NAME: ClassVar[str] = "evaluation.json"

    schema: Schema = SCHEMA
    model: str
    data: str
    privacy: str
    cautions: tuple[str, ...]
    trained: int | None
    trained_told: str
    unlike: int | None
    groups: tuple[Group, ...]
    problems: int

    @property
    def everybody(self) -> Figures:
        """Of all patients."""
        figures = self.groups[0].figures
        if figures is None:
            raise ValueError("the figures of all patients are never withheld")
        return figures
