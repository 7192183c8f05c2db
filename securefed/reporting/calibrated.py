"""How well a model's probabilities hold, before a temperature and after, in sentences."""

from collections.abc import Iterator

from securefed.model.calibration import Calibration
from securefed.reporting.words import number, span


def calibration_in_words(found: Calibration) -> str:
    """What the held-out counts say of the probabilities, and what was made of them."""
    return " ".join(_sentences(found))


def _sentences(found: Calibration) -> Iterator[str]:
    fitted = found.temperature
    if fitted is None:
        yield f"Probabilities are the network's own, not calibrated: {found.why_not}."
    else:
        told = f"{number(fitted.value)} (95% {span(fitted.ci95)})"
        yield f"Calibrated by temperature {told}."
    if _hidden(found):
        yield "Noise in their counts hides how far they are off, and their log loss."
        return
    if fitted is None:
        yield (
            f"Calibration error {number(found.error_before)}, log loss {number(found.loss_before)}."
        )
    else:
        yield (
            f"Calibration error {number(found.error_before)} before, {number(found.error_after)} "
            f"after; log loss {number(found.loss_before)} before, {number(found.loss_after)} after."
        )
        yield (
            "Fitted and measured on the same counts: the log loss allows for that, the calibration "
            "error does not."
        )
    yield (
        f"Chance alone (so few patients, noise in their counts) would give right probabilities an "
        f"error of about {number(found.error_by_chance)}."
    )


def _hidden(found: Calibration) -> bool:
    """Whether a figure is one that no patients give."""
    errors = [each for each in (found.error_before, found.error_after) if each is not None]
    losses = [each for each in (found.loss_before, found.loss_after) if each is not None]
    return max(errors) > 1 or min(losses) < 0
