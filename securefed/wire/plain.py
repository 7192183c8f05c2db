"""Contributions in the clear, where nothing is masked: message, checks, mean."""

import numpy as np

from securefed.errors import RunError
from securefed.model.scores import COUNTS, Counts
from securefed.model.sharing import LARGEST_PARAMETER, Vector
from securefed.wire import messages
from securefed.wire.contribution import Contribution, Total
from securefed.wire.messages import PlainContribution

Plain = tuple[Vector, int, Counts]  # update (P,), training patients, counts (COUNTS,)


def plain_update(part: Contribution, parameters: int) -> bytes:
    """The body of a reply to a step that trains.

    Raises:
        RunError: values of another kind or length than an update; nothing may be sent.
    """
    update = part.values
    if update.dtype != np.float32 or update.shape != (parameters,):
        raise RunError("a contribution that needs secure aggregation, without it")
    return messages.encode(
        PlainContribution(messages.vector_to_bytes(update), part.patients, [])  # type: ignore[arg-type]
    )


def plain_scores(counts: Counts) -> bytes:
    """The body of a reply to a step that scores."""
    return messages.encode(PlainContribution(b"", 0, counts.tolist()))


def plain_contribution(body: bytes, parameters: int, max_patients: int, *, train: bool) -> Plain:
    """A reply's contribution to a step that trains or scores, checked; what it has no part in is 0.

    Raises:
        RunError: not such a contribution, a wrong length, or values out of range.
    """
    message = messages.decode_contribution(body)
    update = messages.vector_from_bytes(message.update)
    if update.shape != (parameters if train else 0,) or not np.isfinite(update).all():
        raise RunError("an update of the wrong length or with non-finite values")
    if np.abs(update).max(initial=0.0) > 2 * LARGEST_PARAMETER:
        raise RunError("an update that leads from no acceptable parameters to others")
    counts = (*message.counts, message.patients)
    expected = 0 if train else COUNTS
    if len(message.counts) != expected or not all(0 <= n <= max_patients for n in counts):
        raise RunError("counts of the wrong length or out of range")
    if not train:
        return update, 0, np.array(message.counts, np.int64)
    return update, message.patients, np.zeros(COUNTS, np.int64)


def plain_total(contributions: list[Plain]) -> Total:
    """FedAvg in the clear over the survivors' contributions to one step, at least one."""
    patients = sum(weight for _, weight, _ in contributions)
    counts = np.stack([counts for *_, counts in contributions]).sum(axis=0)
    weighted = sum(update.astype(np.float64) * weight for update, weight, _ in contributions)
    mean = np.asarray(weighted / patients) if patients else None
    return Total(mean_update=mean, patients=patients, counts=counts)
