"""A client's answer to a step of the plan as one vector, of a length for each kind of step.

    training   word 0 .. P-1   patients / max_patients * update, fixed point
               word P          patients
    scoring    word 0 ..       counts of held-out scores (model.scores; model.class_scores), or in
                               few bins with noise (model.noised_scores), steps of privacy.counts
    scans      word 0 ..       a sum over training patients' scans (model.scan_sums), in steps

All of it is inside the mask, so the server learns totals only. FedAvg (McMahan et al. 2017) is the
weighted update divided by the patients. Nothing can wrap: a layout refuses to exist where the
largest possible sum does not fit the ring. `shared_noise` has the other mechanism's training.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protocols.errors import WouldOverflow
from protocols.fixed_point import CountSlot, FixedPoint, bits_needed
from securefed.errors import ConfigurationError, RunError
from securefed.model import class_scores, scan_sums
from securefed.model.noised_scores import NOISED_COUNTS, NoisedScores
from securefed.model.scores import COUNTS, Counts, Metrics, Steps
from securefed.model.sharing import Vector
from securefed.privacy.counts import STEPS, CountNoise
from securefed.wire.blocks import Blocks

Words = NDArray[np.uint32]
RING_HALF = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Contribution:
    """What one hospital gives to a training round, before it is encoded.

    Attributes:
        values: what its mechanism makes of the round: the update (P,), or what travels of it
            (wire.blocks), or under shared noise ring words.
        patients: training patients.
        parts: of the expected batch of its step (privacy.sampling).
    """

    values: Vector | Words = field(repr=False)
    patients: int
    parts: int


@dataclass(frozen=True, eq=False)
class ScanTotal:
    """A sum over all training patients' scans (model.scan_sums).

    Attributes:
        counts: (words,) patients, neither whole nor positive.
        deviation: standard deviation of the noise of each, patients; 0 without noise.
    """

    counts: NDArray[np.float64] = field(repr=False)
    deviation: float


@dataclass(frozen=True)
class Total:
    """What the server may know of a step.

    Attributes:
        mean_update: (P,) FedAvg mean, or None when nobody trained.
        patients: training patients of the survivors together.
        scores: summed counts of held-out scores, exact or noised; None of a step that does not
            score.
        scans: a sum over training patients' scans; None of a step that does not describe.
    """

    mean_update: NDArray[np.float64] | None = None
    patients: int = 0
    scores: Counts | NoisedScores | None = field(default=None, repr=False)
    scans: ScanTotal | None = field(default=None, repr=False)

    @property
    def metrics(self) -> Metrics | None:
        """Of the scores."""
        return None if self.scores is None else class_scores.metrics(self.scores)


@dataclass(frozen=True)
class ScoreLayout:
    """How held-out scores are encoded, whatever the mechanism; public and the same for everybody.

    Attributes:
        clients: the number of histograms in one sum: everybody's.
        max_patients: largest number of patients one hospital may have.
        noise: that each hospital adds to its own; None where histograms are exact.
        noised: words of one with noise: of scores, or of a survey (model.survey).
        parts: of a patient, that exact counts are in: 1 where each has one example.
        exact: words of one without noise.
        signed: whether entries are sums in steps that may be negative, with noise or without.
    """

    clients: int
    max_patients: int
    noise: CountNoise | None = None
    noised: int = NOISED_COUNTS
    parts: int = 1
    exact: int = COUNTS
    signed: bool = False

    def __post_init__(self) -> None:
        self._code()
        if self.in_steps and self.clients * self.max_patients * STEPS + self._margin > RING_HALF:
            raise ConfigurationError(
                f"{'sums over scans' if self.signed else 'noised scores'} of {self.clients} "
                f"hospitals with up to {self.max_patients} patients do not fit 32 bits",
                hint="lower secure_aggregation.max_patients, or set privacy."
                f"{'reference' if self.signed else 'evaluation'}_epsilon: null",
            )

    @property
    def words(self) -> int:
        """Length of the encoded vector."""
        return self.noised if self.noise else self.exact

    @property
    def in_steps(self) -> bool:
        """Whether what is summed is in steps of privacy.counts, modulo 2^32."""
        return self.noise is not None or self.signed

    def steps(self, counts: Counts) -> Steps:
        """An exact histogram of patients, (words,), as it is encoded."""
        return np.rint(self.parts * counts).astype(np.int64)

    def encode(self, counts: Steps) -> Words:
        """One hospital's histogram, (words,) counts in parts, or noised ones in steps.

        Raises:
            RunError: a wrong shape; nothing may be sent.
            protocols.errors.ValueOutOfRange: a count that is out of its range.
        """
        if counts.shape != (self.words,):
            raise RunError(
                f"counts have shape {counts.shape}, expected ({self.words},); nothing was sent"
            )
        if self.in_steps:
            return counts.astype(np.uint32)  # modulo 2^32
        return self._code().encode(counts)

    def decode(self, total: Words) -> Total:
        """A sum of histograms, (words,). Any words decode; the server judges what they say."""
        if not self.in_steps:
            return self.in_the_clear(self._code().decode(total), self.clients)
        steps = total.astype(np.uint32, copy=False).view(np.int32).astype(np.int64)
        return self.in_the_clear(steps, self.clients)

    def in_the_clear(self, counts: Steps, hospitals: int) -> Total:
        """A sum of so many histograms as they were given to `encode`, (words,)."""
        deviation = self.noise.deviation(hospitals) if self.noise else 0.0
        if self.signed:
            return Total(scans=ScanTotal(counts / STEPS, deviation))
        if not self.noise:
            return Total(scores=counts / self.parts)
        return Total(scores=NoisedScores(counts / STEPS, deviation))

    def possible(self, total: Total, hospitals: int) -> bool:
        """Whether so many honest histograms can add up to this, but for a chance below 1e-30."""
        margin = self._margin / STEPS
        summed = total.scans if self.signed else total.scores
        if summed is None:
            return False
        counts = summed if isinstance(summed, np.ndarray) else summed.counts
        most = hospitals * self.max_patients + margin
        least = -most if self.signed else -margin
        return bool(counts.min() >= least and counts.max() <= most)

    @property
    def _margin(self) -> float:
        """Twelve standard deviations of a count's noise in a sum, steps."""
        return 12 * STEPS * self.noise.deviation(self.clients) if self.noise else 0.0

    def _code(self) -> CountSlot:
        return CountSlot(maximum=self.max_patients * self.parts, summands=self.clients)


class OfScores(Protocol):
    """What a mechanism's layout says of scores; the same for all mechanisms."""

    @property
    def clients(self) -> int: ...

    @property
    def max_patients(self) -> int: ...

    @property
    def score_noise(self) -> CountNoise | None: ...

    @property
    def score_parts(self) -> int: ...

    @property
    def classes(self) -> int: ...


def scan_layout(
    clients: int, max_patients: int, noise: CountNoise | None, modalities: int
) -> ScoreLayout:
    """How sums over scans are encoded, both of them."""
    words = modalities * scan_sums.WORDS
    return ScoreLayout(clients, max_patients, noise, noised=words, exact=words, signed=True)


def score_layout(layout: OfScores) -> ScoreLayout:
    """How the held-out scores of a layout's hospitals are encoded."""
    return ScoreLayout(
        layout.clients,
        layout.max_patients,
        layout.score_noise,
        noised=class_scores.noised_words(layout.classes),
        parts=layout.score_parts,
        exact=class_scores.exact_words(layout.classes),
    )


class Layout(Protocol):
    """How a mechanism's contributions are encoded and their sum decoded: its public half."""

    @property
    def words(self) -> int:
        """Length of the encoded vector."""
        ...

    @property
    def modulus_bits(self) -> int:
        """Of its ring: sums are modulo 2^modulus_bits, and so many bits of a word travel."""
        ...

    @property
    def scores(self) -> ScoreLayout:
        """How the scores of the same hospitals are encoded, in words of 32 bits."""
        ...

    @property
    def scans(self) -> ScoreLayout | None:
        """How sums over their scans are; None where there are none."""
        ...

    @property
    def max_patients(self) -> int:
        """Largest number of patients one hospital may have."""
        ...

    @property
    def largest_update(self) -> float:
        """No value of an honest sum's mean update is larger."""
        ...

    @property
    def needs_masks(self) -> bool:
        """Whether one contribution alone is less protected than its mechanism promises."""
        ...

    @property
    def blocks(self) -> Blocks | None:
        """Which coordinates of an update travel; None where all do."""
        ...

    def encode(self, part: Contribution) -> Words:
        """One contribution, (words,).

        Raises:
            RunError: a wrong shape or values that are not finite; nothing may be sent.
            protocols.errors.ValueOutOfRange: a count that is out of its range.
        """
        ...

    def decode(self, total: Words, round_number: int) -> Total:
        """A sum of contributions, (words,). Any words decode; the server judges what they say."""
        ...


def counts_layout(layout: Layout, *, describe: bool) -> ScoreLayout:
    """How the answer to a step that does not train is encoded.

    Raises:
        RunError: the job has no such step.
    """
    found = layout.scans if describe else layout.scores
    if found is None:
        raise RunError("a sum over scans, in a job that has none")
    return found


def vector_length(layout: Layout, *, train: bool, describe: bool = False) -> int:
    """Words of the vector that answers a step of the plan."""
    return layout.words if train else counts_layout(layout, describe=describe).words


@dataclass(frozen=True)
class ContributionLayout:
    """How contributions are encoded; public and the same for everybody.

    Attributes:
        parameters: values of an update that travel: P, all shared parameters, or k of them.
        clients: the largest number of contributions in one sum.
        value_range: largest absolute value of an update entry; larger ones are clipped.
        max_patients: largest number of patients one hospital may have.
        score_noise: of held-out scores; None where they are exact.
        modulus_bits: of the ring.
        score_parts: of a patient, that exact scores are in.
        classes: that are scored; 0 for two labels.
        blocks: which k coordinates travel; None where all do.
    """

    parameters: int
    clients: int
    value_range: float
    max_patients: int
    score_noise: CountNoise | None = None
    modulus_bits: int = 32
    score_parts: int = 1
    classes: int = 0
    blocks: Blocks | None = None
    scans: ScoreLayout | None = None

    def __post_init__(self) -> None:
        self._update_code()
        self._count_code()

    @property
    def words(self) -> int:
        """Length of the encoded vector."""
        return self.parameters + 1

    @property
    def scores(self) -> ScoreLayout:
        return score_layout(self)

    @property
    def largest_update(self) -> float:
        # A mean of values in range, and what fixed point adds where hospitals have a patient each.
        return self.value_range + self.error_bound(clients=1, patients=1)

    @property
    def needs_masks(self) -> bool:
        return False

    def encode(self, part: Contribution) -> Words:
        update = part.values
        if update.shape != (self.parameters,):
            raise RunError(
                f"the update has shape {update.shape}, expected ({self.parameters},); "
                "nothing was sent"
            )
        if not np.isfinite(update).all():
            raise RunError("the update holds non-finite values; nothing was sent")
        clipped = np.clip(update.astype(np.float64), -self.value_range, self.value_range)
        weighted = clipped * (part.patients / self.max_patients)
        patients = self._count_code().encode([part.patients])
        return np.concatenate([self._update_code().encode(weighted), patients])

    def decode(self, total: Words, round_number: int) -> Total:
        weighted = self._update_code().decode(total[: self.parameters])
        patients = int(self._count_code().decode(total[self.parameters :])[0])
        mean = weighted * (self.max_patients / patients) if patients else None
        if mean is not None and self.blocks:
            mean = self.blocks.spread(mean, round_number)
        return Total(mean_update=mean, patients=patients)

    def error_bound(self, clients: int, patients: int) -> float:
        """Largest error of one entry of the mean update, against FedAvg in the clear."""
        return self._update_code().error_bound(clients) * self.max_patients / patients

    def _update_code(self) -> FixedPoint:
        return FixedPoint(self.value_range, summands=self.clients, modulus_bits=self.modulus_bits)

    def _count_code(self) -> CountSlot:
        return CountSlot(self.max_patients, summands=self.clients, modulus_bits=self.modulus_bits)


def bits_for(
    rounding_error: float, *, clients: int, value_range: float, max_patients: int, patients: int
) -> int:
    """The fewest bits in which rounding adds no more than that to an entry of the mean update.

    Each of k hospitals with n patients rounds n / max_patients * update to steps of s, off by s / 2
    at most; the mean is the sum times max_patients / (k n), off by s / 2 * max_patients / n. All
    bits of 32 where fewer do not suffice.

    Args:
        patients: n, of a hospital on average.

    >>> bits_for(1e-5, clients=4, value_range=4.0, max_patients=10_000, patients=100)
    28
    """
    step = 2 * rounding_error * patients / max_patients
    of_counts = (clients * max_patients).bit_length()
    try:
        return max(of_counts, bits_needed(value_range, clients, step))
    except WouldOverflow:
        return 32
