"""What the server sees of one client is noise: uniform, independent of the input, fresh each
round.

Each test fixes every seed, so it passes or fails for good; "false alarm" is the probability
that a perfectly uniform source would have failed it at first sight: 5.7e-7 for each comparison.
"""

import math

import numpy as np
import pytest

from protocols.messages import decode_masked
from protocols.parameters import JobRules
from tests.protocols.rounds_driver import Federation, names

LENGTH = 50_000
ROUNDS = 8
Z = 5.0  # two-sided tail of a normal: 5.7e-7


@pytest.fixture(scope="module")
def recorded() -> tuple[np.ndarray, np.ndarray]:
    """(rounds, LENGTH) masked vectors of one client that sends the same vector each round, and
    the vector: small numbers, as an update has, with long runs of zero."""
    job = Federation(JobRules("job", LENGTH), names(3), seed="uniformity")
    vector = np.random.default_rng(5).integers(-50, 50, LENGTH).astype(np.int32).view(np.uint32)
    vector[: LENGTH // 2] = 0
    vectors = dict.fromkeys(job.members, vector)
    for number in range(1, ROUNDS + 1):
        job.run(job.server(number), vectors)
    masked = [
        decode_masked(data, LENGTH)[1]
        for _, step, direction, name, data in job.log
        if (step, direction, name) == ("mask", "from", job.members[0])
    ]
    return np.array(masked), vector


def chi_square_is_plausible(counts: np.ndarray) -> bool:
    """Whether the counts fit a uniform law: both tails, by the Wilson-Hilferty transform, which
    makes a chi-square of this many degrees of freedom normal to far beyond 5 sigma."""
    expected = counts.sum() / counts.size
    statistic = float(((counts - expected) ** 2 / expected).sum())
    degrees = counts.size - 1
    cube = (statistic / degrees) ** (1 / 3)
    z = (cube - (1 - 2 / (9 * degrees))) / math.sqrt(2 / (9 * degrees))
    return abs(z) < Z


def test_bytes_at_every_position_of_a_word_are_uniform(recorded):
    """False alarm: 4 tests of 5.7e-7 each, below 3e-6."""
    masked, _ = recorded
    for position in range(4):
        values = (masked >> np.uint32(8 * position)) & np.uint32(255)
        assert chi_square_is_plausible(np.bincount(values.ravel(), minlength=256))


def test_the_upper_bits_of_words_are_uniform_over_4096_cells(recorded):
    masked, _ = recorded
    assert chi_square_is_plausible(np.bincount((masked >> 20).ravel(), minlength=4096))


def test_the_same_check_notices_an_unmasked_or_badly_masked_vector(recorded):
    masked, vector = recorded
    unmasked = np.tile(vector, ROUNDS)
    assert not chi_square_is_plausible(np.bincount(unmasked >> 20, minlength=4096))
    # One scalar for a whole tensor, and masks of 28 bits: mistakes seen elsewhere.
    scalar = unmasked + np.uint32(0x9E3779B9)
    assert not chi_square_is_plausible(np.bincount(scalar & 255, minlength=256))
    short = unmasked + (masked.ravel() & np.uint32(0x0FFFFFFF))
    assert not chi_square_is_plausible(np.bincount(short >> 20, minlength=4096))


def correlation_z(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1]) * math.sqrt(a.size)


def test_masked_vectors_do_not_correlate_with_the_input(recorded):
    """8 rounds x 2 views at 5.7e-7 each: false alarm below 1e-5."""
    masked, vector = recorded
    real = vector.view(np.int32).astype(np.float64)
    for row in masked:
        signed = row.view(np.int32).astype(np.float64)
        assert abs(correlation_z(signed, real)) < Z
        assert abs(correlation_z((row & 1).astype(np.float64), (vector & 1).astype(float))) < Z
    noisy = masked[0].view(np.int32) / 2**31 + real / np.abs(real).max() / 4
    assert abs(correlation_z(noisy, real)) > Z  # the positive control


def test_rounds_that_carry_the_same_vector_look_unrelated(recorded):
    """28 pairs of rounds at 5.7e-7 each: false alarm below 2e-5. Differences of two rounds
    would be exactly zero if a mask were used twice."""
    masked, _ = recorded
    for i in range(ROUNDS):
        for j in range(i):
            difference = masked[i] - masked[j]
            assert np.count_nonzero(difference == 0) < 8  # expected 1e-5 coincidences
            a, b = (masked[k].view(np.int32).astype(np.float64) for k in (i, j))
            assert abs(correlation_z(a, b)) < Z


def test_the_mean_over_rounds_does_not_converge_to_the_input(recorded):
    masked, vector = recorded
    mean = masked.view(np.int32).astype(np.float64).mean(axis=0)
    expected = 2**32 / math.sqrt(12 * ROUNDS)
    assert abs(mean.std() / expected - 1) < 0.05  # the standard error is 0.003
    assert abs(correlation_z(mean, vector.view(np.int32).astype(np.float64))) < Z


def test_survivors_sum_is_exact_although_each_summand_is_noise():
    job = Federation(JobRules("job", 1000), names(3), seed="sum")
    vectors = {name: np.full(1000, i, np.uint32) for i, name in enumerate(job.members)}
    total, _ = job.run(job.server(), vectors).result()
    assert set(total.tolist()) == {3}
