"""Randomness for DP. Statistical tests run at fixed seeds; each states its false-alarm rate."""

import copy
import hashlib
import hmac
import math
import multiprocessing
import os
import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from securefed.privacy.noise import (
    BLOCK,
    CryptographicSource,
    KeystreamSource,
    SeededSource,
    add_gaussian,
)

# The chance that a correct generator fails one statistical test here, had its seed been drawn anew.
FALSE_ALARM = 1e-4
BOTH_KINDS = [CryptographicSource, lambda: SeededSource(1, "kind")]


def test_keystream_is_the_nist_sp_800_38a_f55_vector() -> None:
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    counter = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    plaintext = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    ciphertext = bytes.fromhex(
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
        "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    )
    stream = KeystreamSource(key, counter).keystream(64)
    assert bytes(a ^ b for a, b in zip(plaintext, stream, strict=True)) == ciphertext


def test_keystream_goes_on_where_the_last_draw_ended() -> None:
    whole = KeystreamSource(bytes(32)).keystream(100)
    parts = KeystreamSource(bytes(32))
    assert parts.keystream(7) + parts.keystream(64) + parts.keystream(29) == whole


def test_uniform_is_the_upper_53_bits_of_little_endian_words() -> None:
    words = np.frombuffer(KeystreamSource(bytes(32)).keystream(80), dtype="<u8")
    expected = [int(word) // 2**11 / 2**53 for word in words]
    assert KeystreamSource(bytes(32)).uniform(10).tolist() == expected


def test_normal_equals_box_muller_computed_in_plain_python() -> None:
    """Pairs of 64 signed bits, whose size is the radius, then of 32, the angle."""
    stream = KeystreamSource(bytes(32)).keystream(72)
    radius_bits, angle_bits = np.frombuffer(stream, "<i8", 6), np.frombuffer(stream, "<i4", 6, 48)
    radius = [math.sqrt(-2 * math.log((abs(int(w)) + 0.5) * 2.0**-63)) for w in radius_bits]
    angle = [math.pi * int(w) * 2.0**-31 for w in angle_bits]
    expected = [r * math.cos(a) for r, a in zip(radius, angle, strict=True)]
    expected += [r * math.sin(a) for r, a in zip(radius, angle, strict=True)]
    drawn = KeystreamSource(bytes(32)).normal((3, 4), 2.5, torch.float64)
    assert drawn.shape == (3, 4)
    np.testing.assert_allclose(drawn.flatten().numpy(), 2.5 * np.array(expected), atol=1e-6)


def test_radius_is_in_double_precision() -> None:
    """A variate over the exact radius is a cosine of 24 bits, and nothing was lost beside."""
    bits = np.frombuffer(KeystreamSource(bytes(32)).keystream(8000), "<i8")
    exact = np.sqrt(-2 * np.log((np.abs(bits.astype(float)) + 0.5) * 2.0**-63))
    drawn = KeystreamSource(bytes(32)).normal((2000,), 1.0, torch.float64)[:1000].numpy()
    cosine = drawn / exact
    np.testing.assert_allclose(cosine, cosine.astype(np.float32), rtol=1e-14)


def test_normal_passes_kolmogorov_smirnov() -> None:
    draws = SeededSource(11, "ks").normal((200_000,), 1.0, torch.float64).numpy()
    assert stats.kstest(draws, "norm").pvalue > FALSE_ALARM


def test_normal_passes_chi_square_over_equal_cells() -> None:
    draws = SeededSource(12, "chi").normal((400_000,), 3.0, torch.float64).numpy()
    cells = np.floor(stats.norm.cdf(draws, scale=3.0) * 500).astype(int)
    assert stats.chisquare(np.bincount(cells, minlength=500)).pvalue > FALSE_ALARM


def test_tail_mass_is_gaussian() -> None:
    draws = SeededSource(13, "tail").normal((2_000_000,), 1.0, torch.float64).abs()
    for threshold in (3.0, 4.0, 4.5):
        beyond = int((draws > threshold).sum())
        cdf = stats.binom.cdf(beyond, len(draws), 2 * stats.norm.sf(threshold))
        assert FALSE_ALARM < cdf < 1 - FALSE_ALARM


def test_tail_reaches_beyond_what_single_precision_could() -> None:
    class SmallestWord(KeystreamSource):
        def _cipher(self):
            return self  # the word zero gives the largest radius

        def update_into(self, zeros: memoryview, buffer: bytearray) -> None:
            buffer[: len(zeros)] = zeros

    largest = SmallestWord(bytes(32)).normal((2,), 1.0, torch.float64).max().item()
    assert largest == pytest.approx(math.sqrt(2 * 64 * math.log(2)))
    assert largest > 9.4


@pytest.mark.parametrize("lag", [1, 2, BLOCK // 2, BLOCK])
def test_draws_are_uncorrelated_also_across_a_pair_and_across_blocks(lag: int) -> None:
    draws = SeededSource(14, "lag").normal((500_000,), 1.0, torch.float64).numpy()
    for transform in (lambda x: x, np.square):  # squares would show a shared radius
        assert stats.pearsonr(transform(draws[lag:]), transform(draws[:-lag])).pvalue > FALSE_ALARM


def test_streams_of_different_contexts_are_uncorrelated() -> None:
    first = SeededSource(15, "client-1").normal((300_000,), 1.0, torch.float64).numpy()
    second = SeededSource(15, "client-2").normal((300_000,), 1.0, torch.float64).numpy()
    assert stats.pearsonr(first, second).pvalue > FALSE_ALARM


def test_uniform_passes_chi_square_and_stays_below_one() -> None:
    draws = SeededSource(16, "uniform").uniform(400_000)
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    counts = np.bincount((draws * 1000).astype(int), minlength=1000)
    assert stats.chisquare(counts).pvalue > FALSE_ALARM


@given(st.integers(0, 2**70), st.lists(st.text(max_size=8) | st.integers(-(2**70), 2**70)))
@settings(max_examples=40, deadline=None)
def test_equal_seed_and_context_give_equal_numbers(seed: int, context: list[str | int]) -> None:
    first, second = SeededSource(seed, *context), SeededSource(seed, *context)
    assert torch.equal(first.normal((5,), 1.0), second.normal((5,), 1.0))
    assert first.uniform(3).tolist() == second.uniform(3).tolist()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, "a"), (2, "a")),
        ((1, "a", "b"), (1, "b", "a")),
        ((1, "ab", "c"), (1, "a", "bc")),
        ((1, 12), (1, "12")),
        ((1, 1, 2), (1, 12)),
        ((11,), (1, 1)),
        ((1,), (1, "")),
    ],
)
def test_contexts_that_read_alike_give_different_streams(one: tuple, other: tuple) -> None:
    assert SeededSource(*one).keystream(32) != SeededSource(*other).keystream(32)


def test_seeded_key_is_the_documented_hkdf() -> None:
    """RFC 5869 written out with hmac, so that a changed label or encoding is noticed."""
    info = b"\x00\x00\x00\x03snn" + b"\x00\x00\x00\x03i12"
    pseudorandom_key = hmac.digest(b"securefed seeded noise v1", b"7", hashlib.sha256)
    key = hmac.digest(pseudorandom_key, info + b"\x01", hashlib.sha256)
    assert SeededSource(7, "nn", 12).keystream(48) == KeystreamSource(key).keystream(48)


def test_cryptographic_sources_differ_every_time() -> None:
    streams = {CryptographicSource().keystream(16) for _ in range(20)}
    assert len(streams) == 20


def test_kinds_are_told_apart() -> None:
    assert CryptographicSource().kind == "cryptographic"
    assert SeededSource(0).kind == "seeded"


def _draw_into(queue: "multiprocessing.SimpleQueue[bytes]", source: CryptographicSource) -> None:
    queue.put(source.keystream(32))


def test_forked_process_does_not_repeat_its_parents_noise() -> None:
    source = CryptographicSource()
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_draw_into, args=(queue, source))
    with warnings.catch_warnings():
        # Python 3.12 warns of forking beside threads; the child only encrypts zeros.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    child.join(60)
    assert child.exitcode == 0
    from_child = queue.get()
    assert len(from_child) == 32
    assert from_child != source.keystream(32)


@pytest.mark.parametrize("make", BOTH_KINDS)
def test_source_can_be_neither_copied_nor_pickled_nor_read(make) -> None:
    source = make()
    with pytest.raises(TypeError):
        copy.deepcopy(source)
    with pytest.raises(TypeError):
        pickle.dumps(source)
    assert repr(source) in {
        "CryptographicSource(kind='cryptographic')",
        "SeededSource(kind='seeded')",
    }
    assert not any(isinstance(value, bytes) for value in vars(source).values())


@pytest.mark.parametrize("length", [0, 16, 24, 31, 33])
def test_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"32 bytes, got {length}"):
        KeystreamSource(os.urandom(length))


def test_negative_seed_and_count_are_refused() -> None:
    with pytest.raises(ValueError, match="got -1"):
        SeededSource(-1)
    with pytest.raises(ValueError, match="got -2"):
        SeededSource(1).uniform(-2)


@pytest.mark.parametrize("std", [-1.0, math.nan, math.inf])
def test_impossible_std_is_refused(std: float) -> None:
    with pytest.raises(ValueError, match="std must be finite"):
        SeededSource(1).normal((2,), std)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (BLOCK + 1,)])
def test_every_shape_is_filled(shape: tuple[int, ...]) -> None:
    drawn = SeededSource(1).normal(shape, 1.0)
    assert drawn.shape == torch.Size(shape)
    assert drawn.dtype == torch.float32
    assert bool((drawn != 0).all())


def test_added_noise_has_the_asked_mean_and_variance() -> None:
    value = torch.full((200_000,), 17.3)
    noise = (add_gaussian(value, 0.8, SeededSource(21)) - value).double().numpy()
    assert abs(noise.mean()) < 4 * 0.8 / math.sqrt(len(noise))  # false alarm 6e-5
    spread = (len(noise) - 1) * noise.var(ddof=1) / 0.8**2
    assert FALSE_ALARM < stats.chi2.cdf(spread, len(noise) - 1) < 1 - FALSE_ALARM


@given(st.floats(-1e4, 1e4, width=32), st.floats(1e-3, 1e3), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_sum_lands_on_a_grid_that_does_not_depend_on_the_value(
    value: float, std: float, seed: int
) -> None:
    """The support of the output is the same for neighbours: their low bits are gone."""
    values = torch.full((50,), value, dtype=torch.float64)
    noised = add_gaussian(values, std, SeededSource(seed))
    grid = 2.0 ** (math.floor(math.log2(std)) - 10)
    assert std / 2048 < grid <= std / 1024
    assert torch.equal(torch.remainder(noised, grid), torch.zeros(50, dtype=torch.float64))
    # The same draws, unrounded: rounding moves the sum by half a grid step at most.
    raw = values + SeededSource(seed).normal((50,), std, torch.float64)
    assert bool(((noised - raw).abs() <= grid / 2).all())


def _low_bits_near_zero(outputs: torch.Tensor) -> bool:
    """Does any output near zero have bits below 2^-26?"""
    return bool((torch.remainder(outputs[outputs.abs() < 2**-6].double(), 2.0**-26) != 0).any())


def test_low_bits_tell_neighbours_apart_in_a_plain_sum_but_not_in_ours() -> None:
    """Positive control first: 0.5 + noise near -0.5 cancels, and 0.5 has no bits below 2^-26."""
    draws = SeededSource(3).normal((100_000,), 1.0)
    assert _low_bits_near_zero(0.0 + draws)
    assert not _low_bits_near_zero(0.5 + draws)
    for value in (0.0, 0.5):
        ours = add_gaussian(torch.full((100_000,), value), 1.0, SeededSource(3))
        assert not _low_bits_near_zero(ours)
        assert bool((ours.abs() < 2**-6).any())


def test_zero_std_returns_a_copy_of_the_value() -> None:
    value = torch.tensor([1.0, -2.0])
    noised = add_gaussian(value, 0.0, SeededSource(1))
    assert torch.equal(noised, value)
    assert noised.data_ptr() != value.data_ptr()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_noise_refuses_to_hide_a_value_that_is_not_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        add_gaussian(torch.tensor([0.0, bad]), 1.0, SeededSource(1))


def test_dtype_is_kept_and_the_input_untouched() -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        value = torch.ones(3, dtype=dtype)
        assert add_gaussian(value, 1.0, SeededSource(1)).dtype == dtype
        assert torch.equal(value, torch.ones(3, dtype=dtype))
