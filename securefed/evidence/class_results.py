"""What summary.json says of several classes, from the matrix and the curves of held_out.json."""

from collections.abc import Iterator
from math import isclose

import numpy as np

from securefed.model.auc import area_of_corners
from securefed.model.class_scores import mean_of_all, rates
from securefed.record.mismatch import Mismatch
from securefed.record.summary import HeldOut, Summary

CLOSE = 1e-9


def of_classes(held_out: HeldOut, summary: Summary) -> Iterator[Mismatch]:
    """The scores of the summary, class by class and their means."""
    names = tuple(one.name for one in held_out.classes)
    if names != tuple(one.name for one in summary.classes):
        yield Mismatch(HeldOut.NAME, f"its classes are not those of {Summary.NAME}")
        return
    if not names or any(len(one.called) != len(names) for one in held_out.classes):
        yield Mismatch(HeldOut.NAME, "its matrix has not a row and a column for each class")
        return
    matrix = np.array([one.called for one in held_out.classes])
    if round(matrix.sum()) != held_out.patients:
        yield Mismatch(HeldOut.NAME, f"counts {matrix.sum():g} patients of {held_out.patients}")
    for what, told, follows in _figures(held_out, summary, matrix):
        if not close(told, follows):
            yield Mismatch(HeldOut.NAME, f"gives {what} {follows}, {Summary.NAME} has {told}")


def _figures(
    held_out: HeldOut, summary: Summary, matrix: np.ndarray
) -> Iterator[tuple[str, float | None, float | None]]:
    """What it is of, as the summary has it, and as it follows."""
    each = rates(matrix)
    total = float(matrix.sum())
    yield "accuracy", summary.accuracy, float(matrix.trace()) / total if total else None
    for name in ("sensitivity", "specificity", "f1"):
        follows = mean_of_all([getattr(one, name) for one in each])
        yield f"mean {name}", getattr(summary, name), follows
    for said, one in zip(summary.classes, each, strict=True):
        yield f"sensitivity of {said.name}", said.sensitivity, one.sensitivity
        yield f"specificity of {said.name}", said.specificity, one.specificity
    yield "mean auc", summary.auc, mean_of_all([one.auc for one in summary.classes])
    if held_out.noise is not None:
        return  # a curve of counts that were cut off at 0 is not the one of the AUC
    for said, kept in zip(summary.classes, held_out.classes, strict=True):
        follows = area_of_corners(kept.roc) if kept.roc else None
        yield f"auc of {said.name}", said.auc, follows


def close(one: float | None, other: float | None) -> bool:
    """Whether two figures are one, but for rounding."""
    if one is None or other is None:
        return one is other
    return isclose(one, other, abs_tol=CLOSE)
