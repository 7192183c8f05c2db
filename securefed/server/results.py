"""What the server keeps of a finished run: the totals over held-out patients."""

from dataclasses import asdict
from pathlib import Path

from securefed.model.scores import Counts, confusion, roc
from securefed.record.summary import Confusion, HeldOut


def write_held_out(folder: Path, scores: Counts) -> None:
    """Write held_out.json: what the final model says of all held-out patients, in totals.

    Args:
        scores: their summed histogram, (COUNTS,).
    """
    curve = roc(scores)
    HeldOut(
        patients=int(scores.sum()),
        confusion=Confusion(**asdict(confusion(scores))),
        roc=None if curve is None else tuple((float(x), float(y)) for x, y in curve),
    ).write(folder)
