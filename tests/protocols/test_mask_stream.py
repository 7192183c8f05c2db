"""Mask streams: equal to a naive one, whatever the length, the threads and the signs."""

import dataclasses
import hashlib
from itertools import permutations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.identity import IdentityKey, Roster
from protocols.key_agreement import (
    EphemeralKey,
    mask_key,
    mask_key_of,
    pair_key,
    pair_seed,
    seed_for,
    self_mask_key,
)
from protocols.mask_stream import CHUNK_WORDS, Mask, apply_masks
from protocols.parameters import JobRules, RoundRules
from protocols.transcript import digest, transcript

ROSTER = Roster({name: IdentityKey.generate().public for name in "abc"})
SIZES = (1, 2, 3, 4, 5, CHUNK_WORDS - 1, CHUNK_WORDS, CHUNK_WORDS + 1, 3 * CHUNK_WORDS + 7)


def naive(words: np.ndarray, masks: list[Mask]) -> np.ndarray:
    total = words.astype(object)
    for mask in masks:
        stream = Cipher(algorithms.AES(mask.key), modes.CTR(bytes(16))).encryptor()
        keystream = np.frombuffer(stream.update(bytes(4 * words.size)), dtype="<u4").astype(object)
        total = total - keystream if mask.subtract else total + keystream
    return (total % 2**32).astype(np.uint32)


def rounds() -> list[RoundRules]:
    return [JobRules("job", 1).for_round(ROSTER, number, "abc") for number in (1, 2)]


def keys(count: int) -> list[bytes]:
    return [hashlib.sha256(bytes([i])).digest() for i in range(count)]


@pytest.mark.parametrize("size", SIZES)
def test_masks_equal_the_naive_stream_at_every_length(size):
    words = np.random.default_rng(size).integers(0, 2**32, size, dtype=np.uint32)
    masks = [Mask(key, subtract=bool(i % 2)) for i, key in enumerate(keys(3))]
    expected = naive(words, masks)
    apply_masks(words, masks)
    np.testing.assert_array_equal(words, expected)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("extra", [0, 1, 5])
def test_the_number_of_threads_does_not_change_the_result(threads, extra):
    size = 2**19 + 2**18 + extra
    masks = [Mask(key, subtract=False) for key in keys(2)]
    words, expected = np.zeros(size, np.uint32), np.zeros(size, np.uint32)
    apply_masks(expected, masks)
    apply_masks(words, masks, threads=threads)
    np.testing.assert_array_equal(words, expected)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), max_size=5), st.integers(0, 3000))
def test_opposite_masks_cancel(signs, size):
    words = np.arange(size, dtype=np.uint32)
    masks = [Mask(key, subtract=sign) for key, sign in zip(keys(5), signs, strict=False)]
    undo = [Mask(mask.key, subtract=not mask.subtract) for mask in masks]
    apply_masks(words, masks + undo)
    np.testing.assert_array_equal(words, np.arange(size, dtype=np.uint32))


def test_both_sides_of_a_pair_derive_one_key_and_another_in_another_round():
    a, b, c = (EphemeralKey(key) for key in keys(3))
    first, second = rounds()
    assert pair_key(a, 0, b.public, 1, first) == pair_key(b, 1, a.public, 0, first)
    derived = {pair_key(a, 0, b.public, 1, r) for r in (first, second)}
    derived |= {pair_key(a, 0, c.public, 2, first), pair_key(b, 1, c.public, 2, first)}
    derived |= {self_mask_key(a.secret, 0, first), self_mask_key(a.secret, 0, second)}
    assert len(derived) == 6


def test_the_same_keys_in_other_places_or_under_other_names_derive_other_keys():
    a, b = (EphemeralKey(key) for key in keys(2))
    rules, _ = rounds()
    renamed = dataclasses.replace(rules, cohort=("a", "b", "d"))
    derived = [pair_key(a, p, b.public, q, rules) for p, q in permutations(range(3), 2)]
    derived.append(pair_key(a, 0, b.public, 2, renamed))
    alone = [self_mask_key(a.secret, p, rules) for p in range(3)]
    alone.append(self_mask_key(a.secret, 2, renamed))
    assert len({*derived, *alone}) == len(derived) + len(alone) == 11


def test_one_pair_has_another_stream_for_each_round_and_each_statement():
    pair, other = keys(2)
    bindings = [digest("statement", asked) for asked in (b"a", b"b")]
    streams = {
        mask_key(k, seed, r, s)
        for k, seed in permutations((pair, other))
        for r in rounds()
        for s in bindings
    }
    assert len(streams | {pair, other}) == 10


def test_both_sides_of_a_pair_make_one_seed_that_names_them():
    a, b = (seed_for(key, p, 1 - p, rounds()[0]) for p, key in enumerate(keys(2)))
    rules, following = rounds()
    assert pair_seed(a, 0, b, 1, rules) == pair_seed(b, 1, a, 0, rules)
    made = {pair_seed(a, p, b, q, rules) for p, q in permutations(range(3), 2)}
    made.add(pair_seed(a, 0, b, 1, following))
    made |= {seed_for(keys(1)[0], p, q, r) for p, q in permutations(range(3), 2) for r in rounds()}
    assert len(made) == 7 + 12


def test_the_mask_key_and_the_seeds_of_one_secret_tell_nothing_of_each_other():
    rules, _ = rounds()
    secret = keys(1)[0]
    derived = {mask_key_of(secret, p, rules).secret for p in range(3)}
    derived |= {seed_for(secret, p, q, rules) for p, q in permutations(range(3), 2)}
    assert len(derived | {secret}) == 3 + 6 + 1


def test_secrets_stay_out_of_representations():
    key = EphemeralKey(keys(1)[0])
    for shown in (repr(key), repr(Mask(keys(1)[0], subtract=True))):
        assert keys(1)[0].hex() not in shown
        assert repr(keys(1)[0]) not in shown


@given(st.lists(st.binary(max_size=9), max_size=4), st.lists(st.binary(max_size=9), max_size=4))
def test_transcripts_of_different_parts_differ(first, second):
    assert (transcript("x", *first) == transcript("x", *second)) == (first == second)
    assert transcript("x", *first) != transcript("y", *first)


def test_a_transcript_is_the_parts_behind_their_lengths():
    head = (23).to_bytes(8, "big") + b"securefed secure sum v3" + (1).to_bytes(8, "big") + b"x"
    assert transcript("x", b"ab", b"") == head + (2).to_bytes(8, "big") + b"ab" + bytes(8)
