"""Secret sharing of 32-byte secrets (Shamir, 1979) over the prime field of 2^256 + 297.

A secret is the constant term of a random polynomial of degree threshold - 1; the share of
party x is the value at x. The prime is the smallest above 2^256, so every 32-byte string is a
field element and nothing is cut off. A wrong share is not detected here: whoever recombines
compares the result with a public key or commitment.

Python integers do not take constant time. The timing of `split` is visible only on the
client's own machine.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

from protocols.errors import BadShare, InvalidRules

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33


def split(
    secret: bytes, threshold: int, points: Sequence[int], random: Callable[[int], bytes]
) -> list[bytes]:
    """Split a secret so that any `threshold` shares recover it; one share for each point.

    Guarantee: fewer than `threshold` shares are independent of the secret, up to a bias of
    2^-119 from reducing 48 random bytes per coefficient.
    Not guaranteed: detection of a wrong share.

    Raises:
        InvalidRules: unless 1 <= threshold <= len(points), points distinct and positive, and
            the secret has 32 bytes.
    """
    if not 1 <= threshold <= len(points):
        raise InvalidRules(f"threshold {threshold} is not within 1 and {len(points)} shares")
    if len(set(points)) != len(points) or not all(0 < x < PRIME for x in points):
        # The value at 0 is the secret itself.
        raise InvalidRules("the points of a sharing must be distinct and positive")
    if len(secret) != SECRET_BYTES:
        raise InvalidRules(f"a shared secret has 32 bytes, got {len(secret)}")
    # 48 bytes, not 33, so that the remainder is uniform for every practical purpose.
    drawn = random(48 * (threshold - 1))
    coefficients = [
        int.from_bytes(drawn[i : i + 48], "big") % PRIME for i in range(0, len(drawn), 48)
    ]
    coefficients.append(int.from_bytes(secret, "big"))
    return [_value_at(x, coefficients).to_bytes(SHARE_BYTES, "big") for x in points]


def _value_at(x: int, coefficients: Sequence[int]) -> int:
    """The polynomial's value, by Horner's rule from the highest power on."""
    value = 0
    # Points are small: a value that grows by their few bits a step is cheaper than a remainder.
    for coefficient in coefficients:
        value = value * x + coefficient
    return value % PRIME


@lru_cache(maxsize=4096)
def coefficients_at_zero(points: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange coefficients that take the values at `points` to the value at zero.

    The same for every secret shared among the same parties, hence cached. One inversion in
    all: the product of x_j / (x_j - x_i) over j != i is a quotient of two products.
    """
    product = 1
    for x in points:
        product = product * x % PRIME
    denominators = []
    for i, x in enumerate(points):
        d = x
        for j, other in enumerate(points):
            if j != i:
                d = d * (other - x) % PRIME
        denominators.append(d)
    return tuple(product * inverse % PRIME for inverse in _invert_all(denominators))


def _invert_all(values: Sequence[int]) -> list[int]:
    # Montgomery's trick: prefix products, one inversion, then walk back.
    prefix = [1]
    for value in values:
        prefix.append(prefix[-1] * value % PRIME)
    inverse = pow(prefix[-1], -1, PRIME)
    inverses = []
    for i in range(len(values) - 1, -1, -1):
        inverses.append(inverse * prefix[i] % PRIME)
        inverse = inverse * values[i] % PRIME
    return inverses[::-1]


def is_element(share: bytes) -> bool:
    """Whether this can be a share: a field element in 33 bytes."""
    return len(share) == SHARE_BYTES and int.from_bytes(share, "big") < PRIME


def combine(shares: Sequence[tuple[int, bytes]], threshold: int) -> bytes:
    """Recover a 32-byte secret from (point, share) pairs, using exactly `threshold` of them.

    Raises:
        BadShare: if there are too few, a point occurs twice, a share is no field element, or
            the result is no 32-byte string.
    """
    chosen = sorted(shares)[:threshold]
    points = tuple(x for x, _ in chosen)
    if len(chosen) < threshold:
        raise BadShare(f"{len(chosen)} shares cannot recover a secret with threshold {threshold}")
    if len(set(points)) != len(points) or 0 in points:
        raise BadShare("the same point, or point zero, among the shares of one secret")
    value = 0
    for coefficient, (x, share) in zip(coefficients_at_zero(points), chosen, strict=True):
        if not is_element(share):
            raise BadShare(f"the share of point {x} is not a field element")
        value = (value + coefficient * int.from_bytes(share, "big")) % PRIME
    if value >> 256:
        raise BadShare("the shares do not recover a 32-byte secret")
    return value.to_bytes(SECRET_BYTES, "big")
