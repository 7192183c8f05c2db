"""A contribution whose noise is shared out: one DP-SGD step over the union of hospitals.

    word 0 .. D-1      sum of the drawn patients' clipped gradients and a share of noise (ring_code)
    word D             patients
    word D+1           expected batch: patients that are drawn on average
    word D+2 ..        histogram of held-out scores, zeros when not asked

The server sees totals only. It divides the gradients by the expected batch of the survivors, which
depends on nobody's draw, and hands the strategy the step of plain SGD. Weights are not needed: a
patient counts the same in whichever hospital.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.fixed_point import CountSlot
from securefed.errors import RunError
from securefed.model.scores import COUNTS
from securefed.privacy.ring_code import RingCode
from securefed.wire.contribution import Total, Words


@dataclass(frozen=True)
class DistributedLayout:
    """How contributions are encoded; public and the same for everybody.

    Attributes:
        code: of the gradients.
        clients: the largest number of contributions in one sum.
        max_patients: largest number of patients one hospital may have.
        batch_size: largest expected batch of one hospital.
        learning_rate: of the step.
    """

    code: RingCode
    clients: int
    max_patients: int
    batch_size: int
    learning_rate: float

    def __post_init__(self) -> None:
        self._count_code()
        self._batch_code()

    @property
    def words(self) -> int:
        """Length of the encoded vector."""
        return self._dimension + 2 + COUNTS

    def encode(
        self,
        gradients: Words | None,
        patients: int,
        expected_batch: int,
        counts: NDArray[np.int64],
    ) -> Words:
        """Join the parts of one contribution, (words,).

        Args:
            gradients: of `RingCode.encode`; None from a client that only evaluates.

        Raises:
            RunError: a wrong shape.
            protocols.errors.ValueOutOfRange: a count that is out of its range.
        """
        if gradients is None:
            gradients = np.zeros(self._dimension, np.uint32)
        if gradients.shape != (self._dimension,) or counts.shape != (COUNTS,):
            raise RunError(
                f"gradients and counts have shape {gradients.shape} and {counts.shape}, expected "
                f"({self._dimension},) and ({COUNTS},); nothing was sent"
            )
        own = self._count_code().encode([patients])
        batch = self._batch_code().encode([expected_batch])
        return np.concatenate([gradients, own, batch, self._count_code().encode(counts)])

    def decode(self, total: Words, round_number: int) -> Total:
        """Decode a sum of contributions; the update is an SGD step, None when nobody trained."""
        gradients, tail = total[: self._dimension], total[self._dimension :]
        batch = int(self._batch_code().decode(tail[1:2])[0])
        update = None
        if batch:
            step = self.learning_rate / batch
            update = -step * self.code.decode(gradients, round_number)
        return Total(
            mean_update=update,
            patients=int(self._count_code().decode(tail[:1])[0]),
            counts=self._count_code().decode(tail[2:]),
        )

    @property
    def _dimension(self) -> int:
        return self.code.noise.dimension

    def _count_code(self) -> CountSlot:
        return CountSlot(maximum=self.max_patients, summands=self.clients)

    def _batch_code(self) -> CountSlot:
        return CountSlot(maximum=self.batch_size, summands=self.clients)
