"""A contribution whose noise is shared out: one DP-SGD step over the union of hospitals.

    word 0 .. D-1      sum of the drawn patients' clipped gradients and a share of noise (ring_code)
    word D             patients
    word D+1           parts of the expected batch (privacy.sampling)

The server sees totals only. It divides the gradients by the expected batch of the survivors, which
depends on nobody's draw, and hands the strategy the step of plain SGD. Weights are not needed: a
patient counts the same in whichever hospital.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from protocols.fixed_point import CountSlot
from securefed.errors import RunError
from securefed.model.sharing import LARGEST_PARAMETER
from securefed.privacy.counts import CountNoise
from securefed.privacy.ring_code import RingCode
from securefed.privacy.sampling import Sampling
from securefed.wire.contribution import Contribution, ScoreLayout, Total, Words, score_layout


@dataclass(frozen=True)
class SharedNoiseLayout:
    """How contributions with shared noise are encoded; public and the same for everybody.

    Attributes:
        code: of the gradients.
        clients: the largest number of contributions in one sum.
        max_patients: largest number of patients one hospital may have.
        sampling: how each hospital's step draws its patients.
        learning_rate: of the step.
        score_noise: of held-out scores; None where they are exact.
        score_parts: of a patient, that exact scores are in.
        classes: that are scored; 0 for two labels.
        scans: how sums over scans are encoded; None where there are none.
    """

    code: RingCode
    clients: int
    max_patients: int
    sampling: Sampling
    learning_rate: float
    score_noise: CountNoise | None = None
    score_parts: int = 1
    classes: int = 0
    scans: ScoreLayout | None = None
    #: All coordinates travel: the ring's rotation is of whole gradients.
    blocks: ClassVar[None] = None

    def __post_init__(self) -> None:
        self._count_code()
        self._batch_code()

    @property
    def words(self) -> int:
        """Length of the encoded vector."""
        return self._dimension + 2

    @property
    def modulus_bits(self) -> int:
        # Steps and noise are chosen for the ring of the code.
        return 32

    @property
    def scores(self) -> ScoreLayout:
        return score_layout(self)

    @property
    def largest_update(self) -> float:
        # Noise has no bound below the ring's; what no hospital would accept is no update either.
        return 2 * LARGEST_PARAMETER

    @property
    def needs_masks(self) -> bool:
        # One hospital's share of the noise is less than epsilon asks for.
        return True

    def encode(self, part: Contribution) -> Words:
        gradients = part.values
        if gradients.dtype != np.uint32 or gradients.shape != (self._dimension,):
            raise RunError(
                f"gradients are {gradients.dtype} of shape {gradients.shape}, expected uint32 of "
                f"({self._dimension},); nothing was sent"
            )
        patients = self._count_code().encode([part.patients])
        batch = self._batch_code().encode([part.parts])
        return np.concatenate([gradients.astype(np.uint32), patients, batch])

    def decode(self, total: Words, round_number: int) -> Total:
        """A sum of contributions; the update is the SGD step that the noised sum makes."""
        gradients, tail = total[: self._dimension], total[self._dimension :]
        parts = int(self._batch_code().decode(tail[1:])[0])
        update = None  # also where no hospitals have that batch together
        if 0 < parts <= self.clients * self._most_parts:
            step = self.learning_rate / (self.sampling.unit * parts)
            update = -step * self.code.decode(gradients, round_number)
        return Total(mean_update=update, patients=int(self._count_code().decode(tail[:1])[0]))

    @property
    def _dimension(self) -> int:
        return self.code.noise.dimension

    def _count_code(self) -> CountSlot:
        return CountSlot(maximum=self.max_patients, summands=self.clients)

    def _batch_code(self) -> CountSlot:
        return CountSlot(maximum=self._most_parts, summands=self.clients)

    @property
    def _most_parts(self) -> int:
        return self.sampling.most_parts(self.max_patients)
