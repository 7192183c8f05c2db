"""How a model tells several classes apart in labelled patients, with intervals, as JSON."""

from typing import ClassVar

import msgspec

from securefed.record.evaluation import Interval, Rate
from securefed.record.json_file import SCHEMA, JsonFile, Schema


class ClassEvaluated(msgspec.Struct, frozen=True, kw_only=True):
    """One class against the rest.

    Attributes:
        patients: who have an example of it.
        auc, auc_ci95: null where nobody is of it, or everybody.
        called: patients of it by the class they were called, in the order of the classes; parts of
            them, where labels are of studies or slices.
    """

    name: str
    patients: int
    auc: float | None
    auc_ci95: Interval | None
    sensitivity: Rate
    specificity: Rate
    called: tuple[int | float, ...]


class ClassEvaluationFile(JsonFile, msgspec.Struct, frozen=True, kw_only=True):
    """What `securefed evaluate --json` prints of a model of several classes.

    Attributes:
        model: SHA-256 of the model's file.
        auc, auc_ci95: mean over the classes, and of the ends of their intervals; null where one has
            none.
        accuracy: share of patients whose class was called.
        trained, trained_told: as in evaluation.json.
        problems: lines and images that could not be used.
    """

    NAME: ClassVar[str] = "class_evaluation.json"

    schema: Schema = SCHEMA
    model: str
    privacy: str
    cautions: tuple[str, ...]
    trained: int | None
    trained_told: str
    patients: int
    auc: float | None
    auc_ci95: Interval | None
    accuracy: Rate
    classes: tuple[ClassEvaluated, ...]
    problems: int
