"""How well a model's probabilities hold, before a temperature and after, in sentences."""

from collections.abc import Iterator

from securefed.model.calibration import Calibration
from securefed.reporting.words import number, span


def calibration_in_words(found: Calibration) -> str:
    """What the held-out counts say of the probabilities, and what was made of them."""
    return " ".join(_sentences(found))


def _sentences(found: Calibration) -> Iterator[str]:
    if found.temperature is None:
        yield f"Probabilities are the network's own, not calibrated: {found.why_not}."
        if found.error_before > 1 or found.loss_before < 0:  # no patients give that
            yield "Noise in their counts hides how far they are off, and their log loss."
            return
        yield (
            f"Calibration error {number(found.error_before)}, log loss {number(found.loss_before)}."
        )
    else:
        fitted = found.temperature
        yield (
            f"Calibrated by temperature {number(fitted.value)} (95% {span(fitted.ci95)}): "
            f"calibration error {number(found.error_before)} before, "
            f"{number(found.error_after)} after; log loss {number(found.loss_before)} before, "
            f"{number(found.loss_after)} after."
        )
        yield (
            "Fitted and measured on the same counts: the log loss allows for that, the calibration "
            "error does not."
        )
    yield (
        f"Chance alone (so few patients, noise in their counts) would give right probabilities an "
        f"error of about {number(found.error_by_chance)}."
    )
