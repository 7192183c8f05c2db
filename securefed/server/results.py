"""What the server keeps of a finished run: the totals over held-out patients."""

from collections.abc import Sequence
from dataclasses import asdict

from securefed.model import scores as two_labels
from securefed.model.class_scores import calibration, metrics, parts
from securefed.model.noised_scores import NoisedScores
from securefed.model.scores import Counts, whole
from securefed.record.summary import Confusion, Corners, HeldOut, OfClass, ScoreBin


def held_out(counted: Counts | NoisedScores, classes: Sequence[str]) -> HeldOut:
    """What the final model says of all held-out patients, in totals.

    Args:
        counted: their summed counts, exact or noised.
        classes: names of the task's, none of labels 0 and 1.
    """
    histograms, matrix = parts(counted)
    curves = [_curve(each) for each in histograms]
    noise = counted.deviation if isinstance(counted, NoisedScores) else None
    if matrix is None:
        (one,) = histograms
        cells = one.confusion if isinstance(one, NoisedScores) else two_labels.confusion(one)
        return HeldOut(
            patients=round(sum(asdict(cells).values())),
            noise=noise,
            confusion=Confusion(**asdict(cells)),
            roc=curves[0],
            bins=ScoreBin.of(one),
            calibration=calibration(counted),
        )
    return HeldOut(
        patients=metrics(counted).patients,
        noise=noise,
        confusion=None,
        roc=None,
        classes=tuple(
            OfClass(name=name, called=tuple(whole(float(cell)) for cell in row), roc=curve)
            for name, row, curve in zip(classes, matrix, curves, strict=True)
        ),
    )


def _curve(histogram: Counts | NoisedScores) -> Corners | None:
    curve = histogram.roc if isinstance(histogram, NoisedScores) else two_labels.roc(histogram)
    return None if curve is None else tuple((float(x), float(y)) for x, y in curve)
