"""A client's contribution as one vector: weighted update, number of patients, evaluation counts.

    word 0 .. P-1      patients / max_patients * update, fixed point
    word P             patients
    word P+1 ..        histogram of held-out scores (model.scores), zeros when not asked

All of it is inside the mask, so the server learns totals only. FedAvg (McMahan et al. 2017) is the
first part divided by the second. Nothing can wrap: `ContributionLayout` refuses to exist where the
largest possible sum does not fit the ring.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.fixed_point import CountSlot, FixedPoint
from securefed.errors import RunError
from securefed.model.scores import COUNTS
from securefed.wire import messages

Words = NDArray[np.uint32]


@dataclass(frozen=True)
class Total:
    """What the server may know of a round.

    Attributes:
        mean_update: (P,) FedAvg mean, or None when nobody trained.
        patients: training patients of the survivors together.
        counts: summed histogram of held-out scores, (COUNTS,).
    """

    mean_update: NDArray[np.float64] | None
    patients: int
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class ContributionLayout:
    """How contributions are encoded; public and the same for everybody.

    Attributes:
        parameters: P, number of shared parameters.
        clients: the largest number of contributions in one sum.
        value_range: largest absolute value of an update entry; larger ones are clipped.
        max_patients: largest number of patients one hospital may have.
    """

    parameters: int
    clients: int
    value_range: float
    max_patients: int

    def __post_init__(self) -> None:
        self._update_code()
        self._count_code()

    @property
    def words(self) -> int:
        """Length of the encoded vector."""
        return self.parameters + 1 + COUNTS

    def encode(
        self, update: NDArray[np.float32], patients: int, counts: NDArray[np.int64]
    ) -> Words:
        """Encode one contribution; (P,), n, (COUNTS,) -> (words,).

        Raises:
            RunError: a wrong shape, or an update with non-finite values.
            protocols.errors.ValueOutOfRange: patients or a count outside 0 and max_patients.
        """
        if update.shape != (self.parameters,) or counts.shape != (COUNTS,):
            raise RunError(
                f"update and counts have shape {update.shape} and {counts.shape}, expected "
                f"({self.parameters},) and ({COUNTS},); nothing was sent"
            )
        if not np.isfinite(update).all():
            raise RunError("the update holds non-finite values; nothing was sent")
        clipped = np.clip(update.astype(np.float64), -self.value_range, self.value_range)
        weighted = clipped * (patients / self.max_patients)
        tail = np.concatenate([[patients], counts])
        return np.concatenate(
            [self._update_code().encode(weighted), self._count_code().encode(tail)]
        )

    def decode(self, total: Words) -> Total:
        """Decode a sum of contributions, (words,)."""
        weighted = self._update_code().decode(total[: self.parameters])
        tail = self._count_code().decode(total[self.parameters :])
        patients = int(tail[0])
        mean = weighted * (self.max_patients / patients) if patients else None
        return Total(mean_update=mean, patients=patients, counts=tail[1:])

    def error_bound(self, clients: int, patients: int) -> float:
        """Largest error of one entry of the mean update, against FedAvg in the clear."""
        return self._update_code().error_bound(clients) * self.max_patients / patients

    def _update_code(self) -> FixedPoint:
        return FixedPoint(value_range=self.value_range, summands=self.clients)

    def _count_code(self) -> CountSlot:
        return CountSlot(maximum=self.max_patients, summands=self.clients)


def plain_total(contributions: list[tuple[NDArray[np.float32], int, NDArray[np.int64]]]) -> Total:
    """FedAvg in the clear over (update, patients, counts) of each survivor."""
    patients = sum(weight for _, weight, _ in contributions)
    counts = np.stack([counts for *_, counts in contributions]).sum(axis=0)
    weighted = sum(update.astype(np.float64) * weight for update, weight, _ in contributions)
    mean = np.asarray(weighted / patients) if patients else None
    return Total(mean_update=mean, patients=patients, counts=counts)


def plain_contribution(
    body: bytes, layout: ContributionLayout
) -> tuple[messages.Vector, int, NDArray[np.int64]]:
    """Update (P,), patients and counts (COUNTS,) of a reply in the clear.

    Raises:
        RunError: not a contribution, a wrong length, or values out of range.
    """
    contribution = messages.decode_contribution(body)
    update = messages.vector_from_bytes(contribution.update)
    if update.shape != (layout.parameters,) or not np.isfinite(update).all():
        raise RunError("an update of the wrong length or with non-finite values")
    counts, largest = contribution.counts, layout.max_patients
    if len(counts) != COUNTS or not all(
        0 <= n <= largest for n in (*counts, contribution.patients)
    ):
        raise RunError("counts of the wrong length or out of range")
    return update, contribution.patients, np.array(counts, np.int64)
