"""Words of fewer than 32 bits, packed for the wire.

A sum that needs b bits is a sum modulo 2^b, and 2^b divides 2^32: words are masked and added modulo
2^32, and only their lowest b bits travel. A mask's lowest b bits are as uniform as its 32.

Layout: the words, padded with zeros to a multiple of 32, stand in 32 rows one after the other. Each
column of 32 words of b bits becomes b words of 32 bits, the first word in the lowest bits; these
stand in b rows. Rows are contiguous, so that packing runs at the speed of memory.
"""

import numpy as np

from protocols.mask_stream import Words

ROWS = 32
BLOCK = 16384  # columns at a time: scratch memory stays in the cache


def packed_words(count: int, bits: int) -> int:
    """Words of 32 bits that `count` words of `bits` bits take."""
    return count if bits == 32 else bits * -(-count // ROWS)


def reduce(words: Words, bits: int) -> Words:
    """The words modulo 2^bits."""
    return words if bits == 32 else words & np.uint32(2**bits - 1)


def pack(words: Words, bits: int, out: Words | None = None) -> Words:
    """(count,) uint32, of which the lowest `bits` bits are kept -> (packed_words,) uint32.

    Args:
        out: where to; all zeros. A new array where it is None.
    """
    if out is None:
        out = np.zeros(packed_words(words.size, bits), dtype="<u4")
    if bits == 32:
        np.copyto(out, words)
        return out
    columns = -(-words.size // ROWS)
    rows = [words[row * columns : (row + 1) * columns] for row in range(ROWS)]
    packed = out.reshape(bits, columns)
    reduced, shifted = np.empty(BLOCK, dtype=np.uint32), np.empty(BLOCK, dtype=np.uint32)
    for start in range(0, columns, BLOCK):
        block = packed[:, start : start + BLOCK]
        for row, whole in enumerate(rows):
            values = whole[start : start + BLOCK]
            width = values.size  # less at the end of the words: what is missing is zeros
            low = np.bitwise_and(values, np.uint32(2**bits - 1), out=reduced[:width])
            to, offset = divmod(row * bits, 32)
            block[to, :width] |= np.left_shift(low, np.uint32(offset), out=shifted[:width])
            if offset + bits > 32:
                over = np.right_shift(low, np.uint32(32 - offset), out=shifted[:width])
                block[to + 1, :width] |= over
    return out


def unpack(packed: Words, count: int, bits: int) -> Words:
    """What `pack` was given, modulo 2^bits; bits of padding are not looked at."""
    if bits == 32:
        return packed
    columns = -(-count // ROWS)
    source = packed.reshape(bits, columns)
    rows = np.empty((ROWS, columns), dtype=np.uint32)
    for row, values in enumerate(rows):
        start, offset = divmod(row * bits, 32)
        np.right_shift(source[start], np.uint32(offset), out=values)
        if offset + bits > 32:
            values |= source[start + 1] << np.uint32(32 - offset)
        values &= np.uint32(2**bits - 1)
    return rows.reshape(-1)[:count]
