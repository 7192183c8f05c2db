"""Contributions in the clear, where nothing is masked: message, checks, mean."""

import numpy as np

from securefed.errors import RunError
from securefed.model.scores import COUNTS, Counts
from securefed.model.sharing import LARGEST_PARAMETER, Vector
from securefed.wire import messages
from securefed.wire.contribution import Contribution, Total
from securefed.wire.messages import PlainContribution

Plain = tuple[Vector, int, Counts]  # update (P,), training patients, counts (COUNTS,)


def plain_message(part: Contribution, parameters: int) -> bytes:
    """The body of a reply that carries a contribution in the clear.

    Raises:
        RunError: values of another kind or length than an update; nothing may be sent.
    """
    update = np.zeros(parameters, np.float32) if part.values is None else part.values
    if update.dtype != np.float32 or update.shape != (parameters,):
        raise RunError("a contribution that needs secure aggregation, without it")
    counts = part.counts.tolist()
    return messages.encode(
        PlainContribution(messages.vector_to_bytes(update), part.patients, counts)  # type: ignore[arg-type]
    )


def plain_contribution(body: bytes, parameters: int, max_patients: int) -> Plain:
    """A reply's contribution, checked.

    Raises:
        RunError: not a contribution, a wrong length, or values out of range.
    """
    message = messages.decode_contribution(body)
    update = messages.vector_from_bytes(message.update)
    if update.shape != (parameters,) or not np.isfinite(update).all():
        raise RunError("an update of the wrong length or with non-finite values")
    if np.abs(update).max(initial=0.0) > 2 * LARGEST_PARAMETER:
        raise RunError("an update that leads from no acceptable parameters to others")
    counts = (*message.counts, message.patients)
    if len(message.counts) != COUNTS or not all(0 <= n <= max_patients for n in counts):
        raise RunError("counts of the wrong length or out of range")
    return update, message.patients, np.array(message.counts, np.int64)


def plain_total(contributions: list[Plain]) -> Total:
    """FedAvg in the clear over the survivors' contributions, at least one."""
    patients = sum(weight for _, weight, _ in contributions)
    counts = np.stack([counts for *_, counts in contributions]).sum(axis=0)
    weighted = sum(update.astype(np.float64) * weight for update, weight, _ in contributions)
    mean = np.asarray(weighted / patients) if patients else None
    return Total(mean_update=mean, patients=patients, counts=counts)
