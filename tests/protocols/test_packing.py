"""Words of fewer than 32 bits: packed and unpacked alike, masked and summed modulo 2^bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import messages as m
from protocols.errors import InvalidRules, WouldOverflow
from protocols.fixed_point import CountSlot, FixedPoint, bits_needed
from protocols.packing import pack, packed_words, unpack
from protocols.parameters import JobRules
from tests.protocols.rounds_driver import STATEMENT, Federation, names, plain_sum, random_vectors


def naive(words: list[int], bits: int) -> list[int]:
    """By the page's words, one bit at a time."""
    columns = -(-len(words) // 32)
    padded = words + [0] * (32 * columns - len(words))
    packed = [[0] * columns for _ in range(bits)]
    for row in range(32):
        for column in range(columns):
            for bit in range(bits):
                if padded[row * columns + column] >> bit & 1:
                    to, offset = divmod(row * bits + bit, 32)
                    packed[to][column] |= 1 << offset
    return [word for row in packed for word in row]


@settings(max_examples=60, deadline=None)
@given(bits=st.integers(8, 31), count=st.integers(1, 130), seed=st.integers(0, 99))
def test_packing_equals_the_naive_one_and_comes_back(bits, count, seed):
    words = np.random.default_rng(seed).integers(0, 2**32, count, dtype=np.uint32)
    packed = pack(words, bits)
    assert packed.tolist() == naive(words.tolist(), bits)
    assert packed.size == packed_words(count, bits)
    np.testing.assert_array_equal(unpack(packed, count, bits), words % 2**bits)


@pytest.mark.parametrize("count", [1, 32, 10**6 + 7])
def test_thirty_two_bits_are_left_as_they_are(count):
    words = np.arange(count, dtype=np.uint32)
    assert np.array_equal(pack(words, 32), words)
    assert packed_words(count, 32) == count


@pytest.mark.parametrize("bits", [8, 17, 20, 31])
def test_a_round_gives_the_plain_sum_modulo_two_to_the_bits(bits):
    job = Federation(JobRules("job", 100, modulus_bits=bits), names(5))
    vectors = random_vectors(job.members, 100)
    lost = {job.members[1]: "mask"}
    total, survivors = job.run(job.server(), vectors, lost).result()
    np.testing.assert_array_equal(total, plain_sum(vectors, survivors) % 2**bits)
    (sent,) = (b for _, s, d, n, b in job.log if (s, d, n) == ("mask", "from", job.members[0]))
    assert len(sent) < 4 * packed_words(100, bits) + 400


def test_masked_words_of_few_bits_look_uniform():
    """False alarm: the seed is fixed; 5 sigma for each of 20 bits over 50,000 words."""
    job = Federation(JobRules("job", 50_000, modulus_bits=20), names(3), seed="packed")
    vectors = dict.fromkeys(job.members, np.zeros(50_000, np.uint32))
    job.run(job.server(), vectors)
    (sent,) = (b for _, s, d, n, b in job.log if (s, d, n) == ("mask", "from", job.members[0]))
    words = m.decode_masked(sent, 50_000, 3, 20)[1]
    for bit in range(20):
        ones = int((words >> np.uint32(bit) & 1).sum())
        assert abs(ones - 25_000) < 5 * 50_000**0.5 / 2


def test_a_vector_packed_for_another_width_drops_its_sender():
    job = Federation(JobRules("job", 100, modulus_bits=20), names(5))
    vectors = random_vectors(job.members, 100)
    server = job.run(job.server(), vectors, last="share")
    replies = {
        n: job.clients[n].mask(r, vectors[n], STATEMENT)
        for n, r in server.request_mask(STATEMENT).items()
    }
    head, words = m.decode_masked(replies[job.members[0]], 100, 5, 20)
    replies[job.members[0]] = m.encode_masked(head, words)[0].getvalue()
    server.receive_mask(replies)
    assert list(server.dropped) == [job.members[0]]


@settings(max_examples=60, deadline=None)
@given(bits=st.integers(12, 32), summands=st.integers(1, 40), seed=st.integers(0, 99))
def test_numbers_survive_a_narrow_ring(bits, summands, seed):
    codec = FixedPoint(3.0, summands, modulus_bits=bits)
    values = np.random.default_rng(seed).uniform(-3, 3, (summands, 20))
    values[:, 0], values[:, 1] = 3.0, -3.0  # the extremes, all at once
    total = np.stack([codec.encode(each) for each in values]).sum(axis=0, dtype=np.uint32)
    opened = codec.decode(total % np.uint64(2**bits))
    assert np.abs(opened - values.sum(axis=0)).max() <= codec.error_bound(summands)


@pytest.mark.parametrize(
    ("value_range", "summands", "resolution"), [(4.0, 16, 1e-3), (1.0, 3, 0.5), (8.0, 100, 1e-5)]
)
def test_the_bits_needed_are_enough_and_one_less_is_not(value_range, summands, resolution):
    bits = bits_needed(value_range, summands, resolution)
    assert FixedPoint(value_range, summands, modulus_bits=bits).resolution <= resolution
    if bits > 8:
        fewer = FixedPoint(value_range, summands, modulus_bits=bits - 1)
        assert fewer.resolution > resolution


def test_what_does_not_fit_is_refused():
    with pytest.raises(WouldOverflow, match="32 bits"):
        bits_needed(1e9, 100, 1e-9)
    with pytest.raises(WouldOverflow, match="16 bits"):
        CountSlot(1000, 66, modulus_bits=16)
    with pytest.raises(WouldOverflow, match="no room in 8 bits"):
        FixedPoint(1.0, 200, modulus_bits=8)
    for bits in (0, 7, 33):
        with pytest.raises(InvalidRules, match="modulus_bits"):
            JobRules("job", 1, modulus_bits=bits)
