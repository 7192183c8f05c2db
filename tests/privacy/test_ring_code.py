"""Gradients as integers: exact bounds, unbiased rounding, sums that come back."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.linalg import hadamard
from scipy.stats import chi2

from protocols.discrete_gaussian import DiscreteGaussian
from securefed.errors import PrivacyError
from securefed.privacy.distributed import RingNoise, calibrate
from securefed.privacy.noise import SeededSource
from securefed.privacy.ring_code import RingCode, padded, signs, walsh_hadamard

PARAMETERS = 20
NOISE = calibrate(1.5, dimension=32, rounds=80, counted=2, hospitals=4, expected_batch=40)
CODE = RingCode(PARAMETERS, clip_norm=0.5, noise=NOISE)
STEP = CODE.clip_norm / NOISE.clip_steps  # real units of one ring step


def source(*context: str | int) -> SeededSource:
    return SeededSource(1, "ring code", *context)


def rows(count: int, norm: float, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, PARAMETERS))
    return drawn * norm / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.mark.parametrize("size", [1, 2, 8, 64])
def test_fast_transform_is_the_hadamard_matrix(size: int) -> None:
    values = np.random.default_rng(1).normal(size=(3, size))
    expected = values @ hadamard(size) / math.sqrt(size)
    assert np.allclose(walsh_hadamard(values), expected, atol=1e-12)


@given(arrays.arrays(np.float64, (2, 16), elements=st.floats(-1e6, 1e6)))
def test_transform_keeps_norms_and_undoes_itself(values: np.ndarray) -> None:
    once = walsh_hadamard(values)
    assert np.allclose(walsh_hadamard(once), values, atol=1e-6)
    assert np.allclose(np.linalg.norm(once, axis=1), np.linalg.norm(values, axis=1), atol=1e-6)


def test_padding_is_to_the_next_power_of_two() -> None:
    assert [padded(n) for n in (1, 2, 3, 354, 512, 513)] == [1, 2, 4, 512, 512, 1024]


def test_signs_are_public_bits_of_the_round() -> None:
    digest = hashlib.shake_256(b"securefed rotation v1" + (7).to_bytes(8)).digest(8)
    bits = "".join(f"{byte:08b}" for byte in digest)
    assert list(signs(7, 60)) == [-1.0 if bit == "1" else 1.0 for bit in bits[:60]]
    assert not np.array_equal(signs(7, 64), signs(8, 64))


WILD = st.one_of(
    st.floats(-2, 2), st.floats(-1e300, 1e300), st.sampled_from([0.0, math.inf, math.nan, 1e-300])
)


@settings(max_examples=150, deadline=None)
@given(gradients=arrays.arrays(np.float64, (3, PARAMETERS), elements=WILD), seed=st.integers(0))
def test_no_patient_ever_exceeds_the_accounted_norm(gradients: np.ndarray, seed: int) -> None:
    with np.errstate(over="ignore"):
        rounded = CODE.quantise(gradients, 3, source(seed))
    assert rounded.shape == (3, NOISE.dimension)
    squares = [sum(int(v) ** 2 for v in row) for row in rounded]  # exact integers
    assert max(squares) <= NOISE.norm_bound_squared


def test_roundings_over_the_bound_are_drawn_again_and_at_last_given_up() -> None:
    at_the_norm = rows(200, CODE.clip_norm)
    # Just above the norm before rounding: about half of the roundings are too long.
    tight = RingNoise(32, NOISE.share_sigma, 2, NOISE.clip_steps, int(NOISE.clip_steps**2) + 6)
    rounded = RingCode(PARAMETERS, 0.5, tight).quantise(at_the_norm, 1, source("tight"))
    squares = np.square(rounded).sum(axis=1)
    assert squares.max() <= tight.norm_bound_squared
    assert (squares > 0).mean() > 0.95
    never = RingNoise(32, NOISE.share_sigma, 2, NOISE.clip_steps, int(NOISE.clip_steps**2 / 2))
    assert not RingCode(PARAMETERS, 0.5, never).quantise(at_the_norm, 1, source("never")).any()


def test_rounding_moves_no_word_by_a_step_and_is_right_on_average() -> None:
    gradient = rows(1, 0.4)
    exact = np.zeros((1, NOISE.dimension))
    exact[:, :PARAMETERS] = gradient / STEP
    exact = walsh_hadamard(exact * signs(5, NOISE.dimension))
    repeated = CODE.quantise(np.repeat(gradient, 20_000, axis=0), 5, source("unbiased"))
    assert np.abs(repeated - exact).max() < 1
    fraction = exact - np.floor(exact)
    standard = np.sqrt(fraction * (1 - fraction) / 20_000)
    # 32 words, 5 standard errors: a false alarm in 50,000 seeds.
    assert (np.abs(repeated.mean(axis=0) - exact) < 5 * standard + 1e-9).all()


def test_gradients_are_clipped_in_proportion() -> None:
    long, short = rows(1, 50.0, seed=1), rows(1, 0.1, seed=2)
    for given_row, expected in ((long, long / 100), (short, short)):
        words = CODE.quantise(given_row, 2, source("clip")).sum(axis=0).astype(np.uint32)
        assert np.allclose(CODE.decode(words, 2), expected[0], atol=40 * STEP)


def test_hospitals_sums_come_back_as_clipped_gradients_and_the_stated_noise() -> None:
    """Chi-square over 200 sums of 3 hospitals: two-sided false-alarm rate 1e-6."""
    batches = [rows(n, 0.7, seed=n) for n in (0, 4, 9)]
    clipped = np.concatenate(batches) * (CODE.clip_norm / 0.7)
    residuals = []
    for number in range(200):
        words = np.zeros(NOISE.dimension, np.uint32)
        for index, batch in enumerate(batches):
            chunks = [batch[:3], batch[3:]]
            words += CODE.encode(chunks, number, source("sum", number, index))
        residuals.append(CODE.decode(words, number) - clipped.sum(axis=0))
    noise = np.concatenate(residuals)
    share = NOISE.share_sigma * STEP
    statistic = float((noise**2).sum() / (3 * share**2))
    low, high = chi2.ppf([5e-7, 1 - 5e-7], noise.size)
    assert low < statistic < high
    assert abs(noise.mean()) < 5 * share * math.sqrt(3 / noise.size)


def test_noise_is_exactly_the_discrete_gaussian_of_the_stream() -> None:
    words = CODE.encode([], 1, source("alone"))
    expected = DiscreteGaussian(float(NOISE.share_sigma)).sample(
        NOISE.dimension, key=source("alone").keystream(32)
    )
    assert np.array_equal(words.view(np.int32), expected)


def test_noise_differs_between_rounds_and_hospitals() -> None:
    drawn = {CODE.encode([], 1, source(name)).tobytes() for name in ("a", "b", "c")}
    assert len(drawn) == 3


def test_sum_at_the_edge_of_the_ring_does_not_wrap() -> None:
    """All patients alike, at the clipping norm, where calibration had to take coarser steps."""
    patients = 60_000
    noise = calibrate(
        0.05, dimension=32, rounds=10, counted=3, hospitals=4, expected_batch=patients
    )
    assert noise.share_sigma < 2**13
    code = RingCode(PARAMETERS, 1.0, noise)
    same = np.ones((1, PARAMETERS)) / math.sqrt(PARAMETERS)
    for number in range(5):
        one = code.quantise(same, number, source("edge")).sum(axis=0)
        words = (patients * one).astype(np.uint32) + code.encode([], number, source("edge"))
        expected = patients * same[0]
        assert np.allclose(code.decode(words, number), expected, rtol=1e-2, atol=1.0)
    assert np.abs(patients * one).max() > 2**28, "the case must be near the edge"


def test_gradients_of_another_length_are_refused() -> None:
    with pytest.raises(PrivacyError, match=r"shape \(2, 19\), expected \(n, 20\)"):
        CODE.quantise(np.zeros((2, 19)), 1, source())
