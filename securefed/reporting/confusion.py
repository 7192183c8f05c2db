"""The confusion matrix, recovered from recorded rates.

summary.json has accuracy, sensitivity, specificity and F1 of n patients at full precision. They
are ratios of small whole numbers, so the counts that give all four can be searched for. If exactly
one table does, it is the one they were computed from; otherwise there is no answer.
"""

from securefed.reporting.facts import Confusion

TOLERANCE = 1e-9


def recover(
    patients: int,
    accuracy: float | None,
    sensitivity: float | None,
    specificity: float | None,
    f1: float | None,
) -> Confusion | None:
    """The only table of `patients` counts with these rates, or None."""
    if None in (accuracy, sensitivity, specificity, f1):
        return None
    found = []
    for positives in range(1, patients):
        hits = round((sensitivity or 0.0) * positives)
        passed = round((specificity or 0.0) * (patients - positives))
        table = Confusion(
            true_positive=hits,
            false_negative=positives - hits,
            false_positive=patients - positives - passed,
            true_negative=passed,
        )
        wanted = (accuracy, sensitivity, specificity, f1)
        pairs = zip(_rates(table), wanted, strict=True)
        if all(abs(have - (want or 0.0)) < TOLERANCE for have, want in pairs):
            found.append(table)
    return found[0] if len(found) == 1 else None


def _rates(table: Confusion) -> tuple[float, float, float, float]:
    tp, fn = table.true_positive, table.false_negative
    fp, tn = table.false_positive, table.true_negative
    f1 = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0
    return (tp + tn) / (tp + fn + fp + tn), tp / (tp + fn), tn / (tn + fp), f1
