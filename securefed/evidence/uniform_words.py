"""Whether words are uniform in a ring of 2^bits and independent: tests with exact error rates.

A mask is a keystream, so that whatever is uniform and independent of the vector under it hides
that vector. Every figure is an upper bound on the probability that honest words look as odd:
binomial tails and union bounds, no approximation, for one word and for millions.

    one value  no value comes far more often than by chance: words that are not masked, or all with
               the same mask (union bound over all sets of words)
    bits       each bit is one in half of the words (binomial)
    bytes      each value of each byte, and of the topmost eight bits, in 1/256 of them (binomial)
    steps      all three again for differences of one word and the next: counters, slow generators
    a vector   no correlation with the vector under the mask (Hoeffding's inequality)

What has many words and nothing in common with itself is seen by `repeated_words`.
"""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import special

Words = npt.NDArray[np.uint32]
Oddity = tuple[float, str]  # a p-value, and of what, in words

BYTE = 8
VALUES = 2**BYTE


def oddities(words: Words, bits: int, own: Words | None = None) -> Iterator[Oddity]:
    """What each test says of words in one order, (N,), below 2^bits.

    Args:
        own: the vector that they should hide, (N,); None where it is not known.
    """
    if not words.size:
        return
    steps = reduced(words[1:] - words[:-1], bits)
    for series, of in ((words, ""), (steps, " of differences of successive words")):
        if series.size:
            yield _one_value(series, bits, of)
            counts = _counts(series, bits)
            yield _bits(counts, series.size), f"bits{of} are not even"
            yield _either_tail(counts, series.size, 1 / VALUES), f"bytes{of} are not even"
    if own is not None:
        yield _correlation(words, own, bits), "they follow the vector that they should hide"


def reduced(words: Words, bits: int) -> Words:
    """Modulo 2^bits."""
    return words & np.uint32(2**bits - 1)


def centred(words: Words, bits: int) -> npt.NDArray[np.float64]:
    """Residues as numbers of the least size."""
    values = words.astype(np.float64)
    values[values >= 2 ** (bits - 1)] -= 2.0**bits
    return values


def _counts(words: Words, bits: int) -> npt.NDArray[np.int64]:
    """How often each value of each byte comes, and of the topmost eight bits, (places, 256)."""
    lowest = sorted({*range(0, bits - BYTE + 1, BYTE), bits - BYTE})
    shifted = (((words >> np.uint32(shift)) & np.uint32(VALUES - 1)) for shift in lowest)
    return np.stack([np.bincount(values, minlength=VALUES) for values in shifted])


def _bits(counts: npt.NDArray[np.int64], words: int) -> float:
    # Each is a fair coin, whatever the others are.
    set_in = (np.arange(VALUES)[:, None] >> np.arange(BYTE)) & 1  # (256, 8)
    return _either_tail(counts @ set_in, words, 0.5)


def _either_tail(counts: npt.NDArray[np.int64], trials: int, chance: float) -> float:
    """Of the least likely of several binomial counts, Bonferroni over them and both tails."""
    above = special.bdtrc(counts.max() - 1.0, trials, chance) if counts.max() else 1.0
    below = special.bdtr(float(counts.min()), trials, chance)
    return min(1.0, 2 * counts.size * float(min(above, below)))


def _one_value(words: Words, bits: int, of: str) -> Oddity:
    """P(some value comes k times or more) <= C(N, k) 2^(-bits (k - 1))."""
    ordered = np.sort(words)
    starts = np.flatnonzero(np.diff(ordered, prepend=~ordered[:1]))
    counts = np.diff(starts, append=ordered.size)
    most = int(counts.argmax())
    count, total = int(counts[most]), words.size
    sets = special.gammaln(total + 1) - special.gammaln(count + 1)
    sets -= special.gammaln(total - count + 1)
    bound = math.exp(min(0.0, sets - bits * (count - 1) * math.log(2)))
    return bound, f"{count} of {total} words{of} are {ordered[starts[most]]}"


def _correlation(words: Words, own: Words, bits: int) -> float:
    """Sums of bounded independent terms: Hoeffding (1963), theorem 2, two-sided."""
    weights = centred(own, bits)
    weights -= weights.mean()
    spread = float(np.square(weights).sum()) * 2.0 ** (2 * bits)
    if not spread:
        return 1.0
    # The weights add up to zero, so that the mean of the words does not matter.
    found = float(weights @ words.astype(np.float64))
    return min(1.0, 2 * math.exp(-2 * found**2 / spread))
