"""What the server keeps of a finished run: the model, and the totals over held-out patients."""

from dataclasses import asdict
from pathlib import Path

from securefed.model.network import DualEncoderNetwork
from securefed.model.scores import Counts, confusion, roc
from securefed.record.directory import SCHEMA, save_tensors
from securefed.record.summary import Confusion, HeldOut


def write_model(folder: Path, network: DualEncoderNetwork, shape: str) -> None:
    """Write model.safetensors: the network with the final shared parameters.

    Args:
        shape: the model's settings as JSON, to build the network from.
    """
    about = {"schema": str(SCHEMA), "shape": shape}
    save_tensors(folder / "model.safetensors", network.state_dict(), about)


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
