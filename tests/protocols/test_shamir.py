"""Secret sharing: threshold-many shares recover, fewer say nothing, wrong ones are noticed."""

import itertools
import os
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import BadShare, InvalidRules
from protocols.shamir import PRIME, SHARE_BYTES, coefficients_at_zero, combine, split

SECRET = bytes(range(32))


def test_the_prime_is_the_smallest_above_two_to_the_256():
    def passes_fermat_and_miller_rabin(n):
        d, r = n - 1, 0
        while d % 2 == 0:
            d, r = d // 2, r + 1
        for a in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
            x = pow(a, d, n)
            if x in (1, n - 1):
                continue
            if not any((x := x * x % n) == n - 1 for _ in range(r - 1)):
                return False
        return True

    assert passes_fermat_and_miller_rabin(PRIME)
    assert not any(passes_fermat_and_miller_rabin(n) for n in range(2**256 + 1, PRIME, 2))


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.integers(1, 9), st.data())
def test_any_threshold_many_shares_recover_the_secret(secret, threshold, data):
    points = data.draw(
        st.lists(st.integers(1, 65_535), min_size=threshold, max_size=12, unique=True)
    )
    shares = list(zip(points, split(secret, threshold, points, os.urandom), strict=True))
    chosen = data.draw(st.permutations(shares))[:threshold]
    assert combine(chosen, threshold) == secret


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32])
def test_the_extreme_secrets_survive(secret):
    shares = list(zip((1, 2, 3), split(secret, 2, (1, 2, 3), os.urandom), strict=True))
    for pair in itertools.combinations(shares, 2):
        assert combine(pair, 2) == secret


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8, unique=True))
def test_coefficients_equal_the_textbook_product(points):
    for ours, x in zip(coefficients_at_zero(tuple(points)), points, strict=True):
        exact = Fraction(1)
        for other in points:
            if other != x:
                exact *= Fraction(other, other - x)
        assert (ours * exact.denominator - exact.numerator) % PRIME == 0


def test_one_share_too_few_fits_every_secret():
    # With threshold 3, for two shares and any secret there is a polynomial: the missing share.
    shares = list(zip((1, 2, 3), split(SECRET, 3, (1, 2, 3), os.urandom), strict=True))
    for candidate in (bytes(32), b"\x01" * 32, b"\xff" * 32):
        c1, c2, c3 = coefficients_at_zero((1, 2, 3))
        known = sum(
            c * int.from_bytes(s, "big") for c, (_, s) in zip((c1, c2), shares, strict=False)
        )
        third = (int.from_bytes(candidate, "big") - known) * pow(c3, -1, PRIME) % PRIME
        assert combine([*shares[:2], (3, third.to_bytes(33, "big"))], 3) == candidate


def test_shares_of_one_secret_differ_from_time_to_time():
    first, second = (split(SECRET, 2, (1, 2), os.urandom) for _ in range(2))
    assert set(first).isdisjoint(second)


def test_too_few_repeated_or_foreign_shares_are_refused():
    shares = list(zip((1, 2, 3), split(SECRET, 2, (1, 2, 3), os.urandom), strict=True))
    with pytest.raises(BadShare, match="1 shares"):
        combine(shares[:1], 2)
    with pytest.raises(BadShare, match="same point"):
        combine([shares[0], shares[0]], 2)
    with pytest.raises(BadShare, match="point zero"):
        combine([(0, shares[0][1]), shares[1]], 2)
    for wrong in (PRIME.to_bytes(SHARE_BYTES, "big"), b"\xff" * 33, shares[0][1][1:], b""):
        with pytest.raises(BadShare, match="field element"):
            combine([(1, wrong), shares[1]], 2)


def test_a_result_outside_32_bytes_is_refused():
    with pytest.raises(BadShare, match="32-byte"):
        combine([(1, (2**256).to_bytes(33, "big"))], 1)


@pytest.mark.parametrize(
    ("secret", "threshold", "points"),
    [
        (SECRET, 0, (1, 2)),
        (SECRET, 3, (1, 2)),
        (SECRET, 2, (1, 1)),
        (SECRET, 2, (0, 1)),
        (SECRET[:31], 2, (1, 2)),
        (SECRET + b"\0", 2, (1, 2)),
    ],
)
def test_a_sharing_that_cannot_be_is_refused(secret, threshold, points):
    with pytest.raises(InvalidRules):
        split(secret, threshold, points, os.urandom)
