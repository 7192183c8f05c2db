"""Mask streams: AES-256 in counter mode (NIST SP 800-38A) as words of the ring of 2^32.

A mask is the keystream of one key from counter zero, read as little-endian 32-bit words. Each
key is derived for one round and one pair, so the zero counter is never reused with another
message. Vectors are worked through in chunks small enough that the keystream never leaves the
cache; threads take separate ranges of the vector and seek to their counter. OpenSSL and numpy
release the interpreter lock while they work. The stream hides the vector only as long as the
key is secret: whoever rebuilds the key removes the mask.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

Words = NDArray[np.uint32]

CHUNK_WORDS = 2**16  # 256 KiB of keystream: stays in the second-level cache
_BLOCK_WORDS = 4  # one AES block
_WORDS_WORTH_A_THREAD = 2**18
_ZEROS = bytes(4 * CHUNK_WORDS)


@dataclass(frozen=True, slots=True)
class Mask:
    """One mask stream and whether it is added or subtracted. The key is 32 bytes, secret."""

    key: bytes = field(repr=False)
    subtract: bool


def keystream_from(key: bytes, block: int) -> CipherContext:
    """AES-256 in counter mode with the counter at `block`: encrypting zeros yields keystream."""
    return Cipher(algorithms.AES256(key), modes.CTR(block.to_bytes(16, "big"))).encryptor()


def apply_masks(words: Words, masks: Sequence[Mask], *, threads: int = 1) -> None:
    """Add (or subtract) every mask to `words`, in place, modulo 2^32.

    Time grows with len(words) * len(masks); extra memory is one chunk for each thread.
    """
    parts = max(1, min(threads, words.size // _WORDS_WORTH_A_THREAD))
    step = -(-words.size // (parts * _BLOCK_WORDS)) * _BLOCK_WORDS  # ranges start at whole blocks
    ranges = [(start, min(start + step, words.size)) for start in range(0, words.size, step or 1)]
    if len(ranges) <= 1:
        _apply_range(words, masks, 0, words.size)
        return
    with ThreadPoolExecutor(len(ranges)) as pool:
        for done in [pool.submit(_apply_range, words, masks, *bounds) for bounds in ranges]:
            done.result()


def _apply_range(words: Words, masks: Sequence[Mask], start: int, stop: int) -> None:
    streams = [(keystream_from(m.key, start // _BLOCK_WORDS), m.subtract) for m in masks]
    buffer = bytearray(4 * CHUNK_WORDS + 15)  # update_into asks for a block less one to spare
    keystream = np.frombuffer(buffer, dtype="<u4", count=CHUNK_WORDS)
    zeros = memoryview(_ZEROS)
    # Chunks outside, keys inside: a chunk of the vector is read and written once from memory.
    for first in range(start, stop, CHUNK_WORDS):
        chunk = words[first : min(first + CHUNK_WORDS, stop)]
        for stream, subtract in streams:
            stream.update_into(zeros[: 4 * chunk.size], buffer)
            operation = np.subtract if subtract else np.add
            operation(chunk, keystream[: chunk.size], out=chunk)
