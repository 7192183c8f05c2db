"""evaluation.json: how a model does on labelled patients that it has not seen, with intervals."""

from typing import ClassVar

import msgspec

from securefed.record.json_file import SCHEMA, JsonFile, Schema

Interval = tuple[float, float]  # 95%


class Rate(msgspec.Struct, frozen=True):
    """A share of patients, with Wilson's interval; null of nobody."""

    value: float | None
    ci95: Interval | None


class Group(msgspec.Struct, frozen=True):
    """All patients, or those who have something in common.

    Attributes:
        column: "all", "site", or "modalities" (which of the model's they have).
        patients, positives: how many, and how many of them have a positive example; of a group that
            is withheld, null.
        auc, auc_ci95: area under the ROC curve (Newcombe's interval); null without both labels.
        withheld: too few patients of a label to say anything, or to say it of nobody in particular.
    """

    column: str
    value: str
    patients: int | None
    positives: int | None
    auc: float | None
    auc_ci95: Interval | None
    withheld: bool


class OperatingPoint(msgspec.Struct, frozen=True):
    """Patients of at least this probability are called positive.

    Attributes:
        rule: how the threshold was chosen; on these patients, unless it is a half.
    """

    rule: str
    threshold: float
    sensitivity: Rate
    specificity: Rate


class Bin(msgspec.Struct, frozen=True):
    """Patients of about the same probability, of a reliability diagram.

    Attributes:
        patients: parts of them, where labels are of studies or slices.
        predicted: their mean probability.
        observed: the share of positives among them.
    """

    patients: int | float
    predicted: float
    observed: float


class EvaluationFile(JsonFile, msgspec.Struct, frozen=True, kw_only=True):
    """The content of evaluation.json.

    Attributes:
        model: SHA-256 of the model's file.
        calibration_error: expected calibration error over `reliability` (Naeini et al. 2015).
    """

    NAME: ClassVar[str] = "evaluation.json"

    schema: Schema = SCHEMA
    model: str
    privacy: str
    cautions: tuple[str, ...]
    groups: tuple[Group, ...]
    operating_points: tuple[OperatingPoint, ...]
    reliability: tuple[Bin, ...]
    calibration_error: float
    problems: int
