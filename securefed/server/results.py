"""What the server keeps of a finished run: the totals over held-out patients."""

from dataclasses import asdict
from pathlib import Path

from securefed.model.noised_scores import NoisedScores, calibration
from securefed.model.scores import Counts, confusion, roc
from securefed.record.summary import Confusion, HeldOut


def write_held_out(folder: Path, scores: Counts | NoisedScores) -> None:
    """Write held_out.json: what the final model says of all held-out patients, in totals.

    Args:
        scores: their summed histogram, exact or noised.
    """
    if isinstance(scores, NoisedScores):
        cells, curve, noise = scores.confusion, scores.roc, scores.deviation
    else:
        cells, curve, noise = confusion(scores), roc(scores), None
    HeldOut(
        patients=round(sum(asdict(cells).values())),
        noise=noise,
        confusion=Confusion(**asdict(cells)),
        roc=None if curve is None else tuple((float(x), float(y)) for x, y in curve),
        calibration=calibration(scores),
    ).write(folder)
