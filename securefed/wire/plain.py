"""Contributions in the clear, where nothing is masked: message, checks, mean."""

import numpy as np

from securefed.errors import RunError
from securefed.model.scores import Steps
from securefed.model.sharing import LARGEST_PARAMETER, Vector
from securefed.wire import messages
from securefed.wire.contribution import Contribution, Layout, ScoreLayout, Total, counts_layout
from securefed.wire.messages import PlainContribution

Plain = tuple[Vector, int, Steps]  # update (P,), training patients, counts (words,)


def plain_update(part: Contribution, values: int) -> bytes:
    """The body of a reply to a step that trains, with so many values of an update.

    Raises:
        RunError: values of another kind or length than an update; nothing may be sent.
    """
    update = part.values
    if update.dtype != np.float32 or update.shape != (values,):
        raise RunError("a contribution that needs secure aggregation, without it")
    return messages.encode(
        PlainContribution(messages.vector_to_bytes(update), part.patients, [])  # type: ignore[arg-type]
    )


def plain_scores(counts: Steps) -> bytes:
    """The body of a reply to a step that scores."""
    return messages.encode(PlainContribution(b"", 0, counts.tolist()))


def plain_contribution(
    body: bytes,
    parameters: int,
    layout: Layout,
    *,
    train: bool,
    number: int,
    describe: bool = False,
) -> Plain:
    """A reply's contribution to a step, checked; what it has no part in is empty, or 0.

    Args:
        number: of the step; it says which coordinates travelled (wire.blocks).

    Raises:
        RunError: not such a contribution, a wrong length, or values out of range.
    """
    message = messages.decode_contribution(body)
    update = messages.vector_from_bytes(message.update)
    sent = layout.blocks.sent if layout.blocks else parameters
    if update.shape != (sent if train else 0,) or not np.isfinite(update).all():
        raise RunError("an update of the wrong length or with non-finite values")
    if np.abs(update).max(initial=0.0) > 2 * LARGEST_PARAMETER:
        raise RunError("an update that leads from no acceptable parameters to others")
    counts = np.array(message.counts, np.int64)
    if train:
        right = counts.size == 0 and message.patients <= layout.max_patients
    else:
        right = message.patients == 0 and _possible(
            counts, counts_layout(layout, describe=describe)
        )
    if not right:
        raise RunError("counts of the wrong length or out of range")
    if train and layout.blocks:
        update = layout.blocks.spread(update, number)
    return update, message.patients, counts


def plain_total(contributions: list[Plain]) -> Total:
    """FedAvg in the clear over the survivors' contributions to a step that trains, at least one."""
    patients = sum(weight for _, weight, _ in contributions)
    weighted = sum(update.astype(np.float64) * weight for update, weight, _ in contributions)
    mean = np.asarray(weighted / patients) if patients else None
    return Total(mean_update=mean, patients=patients)


def plain_scores_total(contributions: list[Plain], layout: ScoreLayout) -> Total:
    """Counts of the survivors of a step that scores or describes, at least one."""
    counts = np.stack([counts for *_, counts in contributions]).sum(axis=0)
    return layout.in_the_clear(counts, len(contributions))


def _possible(counts: Steps, layout: ScoreLayout) -> bool:
    return counts.size == layout.words and layout.possible(layout.in_the_clear(counts, 1), 1)
