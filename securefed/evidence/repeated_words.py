"""Whether a piece of one series of words comes again: in another, in itself, or in other bytes.

Two masks that are equal, equal but for a constant, shifted, or of opposite sign have windows of
equal differences; a counter and a constant have the same window everywhere. Honest words are
uniform, so that windows of enough bits never repeat: `window` says of how many.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from securefed.evidence.uniform_words import Words, centred, reduced

MOST_WINDOWS = 2**22  # of all series together, in a few seconds
SMALL = 16  # a piece of a vector that is full of zeros and small counts is no trace of it
FACTORS = np.random.default_rng(0x5EED).integers(2**62, size=64, dtype=np.uint64) * 2 + 1

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Series:
    """Words of one message.

    Attributes:
        name: what they are, for who compares.
        kept: whether they are a vector in the clear: looked for in others, not in its own kind.
        sent: what travelled, of which the words are a part; where the other part is zeros, what
            travels is no trace of them. (N,), or None.
    """

    name: int
    words: Words = field(repr=False)
    kept: bool = False
    sent: Words | None = field(default=None, repr=False)


def window(candidates: int, bits: int, alarm: float) -> int:
    """Words of a window so that any two of so many agree with probability `alarm` at most.

    For two windows that are uniform the probability is 2 * 2^(-bits * window), either sign; for
    overlapping ones of one series too, since `window` equations fix one word each.
    """
    pairs = max(candidates, 2) ** 2
    return math.ceil(math.log2(pairs / alarm) / bits)


def repeats(series: Sequence[Series], bits: int, alarm: float) -> Iterator[tuple[int, int]]:
    """Names of pairs of which one has a window of differences of the other, or of itself."""
    size = window(_total(series), bits, alarm)
    windows, owners, kept = [], [], []
    for one in series:
        rows = _windows(reduced(np.diff(one.words), bits), size)
        if one.kept:
            rows = rows[_telling(rows, bits)]
        windows.append(_either_sign(rows, bits))
        owners.append(np.full(len(rows), one.name))
        kept.append(np.full(len(rows), one.kept))
    if not sum(map(len, windows)):
        return
    rows, owner, clear = map(np.concatenate, (windows, owners, kept))
    hashes = _hashes(rows)
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    found: set[tuple[int, int]] = set()
    for a, b in zip(order[same], order[same + 1], strict=True):
        if not (clear[a] and clear[b]) and (rows[a] == rows[b]).all():
            found.add((int(min(owner[a], owner[b])), int(max(owner[a], owner[b]))))
    yield from sorted(found)


def traces(
    needles: Sequence[Series], messages: Iterable[bytes], size: int, bits: int, alarm: float
) -> Iterator[tuple[int, int]]:
    """Pairs of a series and the position of a message that holds a piece of it, at any byte.

    Bytes are read as little-endian words modulo 2^bits. Of a vector in the clear, only pieces of
    different numbers that are not small count.

    Args:
        size: of all messages together, bytes.
    """
    of = window(size + _total(needles), bits, alarm)
    windows = [_needles(one, of, bits) for one in needles]
    if not sum(map(len, windows)):
        return
    names = np.concatenate(
        [np.full(len(rows), one.name) for one, rows in zip(needles, windows, strict=True)]
    )
    rows = np.concatenate(windows)
    hashes = _hashes(rows)
    order = np.argsort(hashes, kind="stable")
    names, rows, hashes = names[order], rows[order], hashes[order]
    for position, message in enumerate(messages):
        place = _place(message, of, bits, hashes, rows)
        if place is not None:
            yield int(names[place]), position


def _needles(one: Series, size: int, bits: int) -> npt.NDArray[np.uint32]:
    rows = _windows(one.words, size)
    telling = _telling(rows, bits)
    if one.sent is not None:
        telling &= (rows != _windows(one.sent, size)).any(axis=1)
    return rows[telling]


def _total(series: Sequence[Series]) -> int:
    return sum(one.words.size for one in series)


def _place(
    message: bytes, size: int, bits: int, hashes: Hashes, rows: npt.NDArray[np.uint32]
) -> int | None:
    """A row that the message holds; None if there is none."""
    for start in range(4):
        words = np.frombuffer(message[start : len(message) - (len(message) - start) % 4], "<u4")
        here = _windows(reduced(words, bits), size)
        found = _hashes(here)
        at = np.minimum(np.searchsorted(hashes, found), hashes.size - 1)
        for one in np.flatnonzero(hashes[at] == found):
            if (rows[at[one]] == here[one]).all():
                return int(at[one])
    return None


def _windows(words: Words, size: int) -> npt.NDArray[np.uint32]:
    """(N - size + 1, size), a view; (0, size) where there are too few words."""
    if words.size < size:
        return np.empty((0, size), np.uint32)
    return np.lib.stride_tricks.sliding_window_view(words, size)


def _telling(rows: npt.NDArray[np.uint32], bits: int) -> npt.NDArray[np.bool_]:
    """Whether a window is of different numbers, none of them small."""
    if not len(rows):
        return np.empty(0, np.bool_)
    ordered = np.sort(rows, axis=1)
    different = (ordered[:, 1:] != ordered[:, :-1]).all(axis=1)
    sizes = np.abs(centred(rows, bits)).min(axis=1)
    return np.asarray(different & (sizes >= SMALL))


def _either_sign(rows: npt.NDArray[np.uint32], bits: int) -> npt.NDArray[np.uint32]:
    """Each window or its negative, so that both become the same."""
    opposite = reduced(-rows, bits)
    flip = np.zeros(len(rows), np.bool_)
    undecided = np.ones(len(rows), np.bool_)
    for column in range(rows.shape[1]):
        a, b = rows[:, column], opposite[:, column]
        flip |= undecided & (b < a)
        undecided &= a == b
    return np.where(flip[:, None], opposite, rows)


def _hashes(rows: npt.NDArray[np.uint32]) -> Hashes:
    """Of each window; equal windows have equal ones, and few others."""
    total = np.zeros(len(rows), np.uint64)
    for column in range(rows.shape[1]):
        total += rows[:, column].astype(np.uint64) * FACTORS[column]
        total ^= total >> np.uint64(29)
    return total
