"""Byte strings that are signed, hashed or authenticated: one unambiguous encoding for all.

Every part is preceded by its length and the whole by the protocol's name and a label, so that
no two different lists of parts, and no two different purposes, give the same bytes. Hashing
and signing concatenated fields without this is how one message is passed off as another.
"""

import hashlib
from functools import lru_cache

PROTOCOL = b"securefed secure sum v3"


def transcript(label: str, *parts: bytes) -> bytes:
    """The parts under a domain label; injective in (label, parts).

    Each part is preceded by its length as 8 bytes, big-endian.
    """
    return b"".join(_framed(label, parts))


def digest(label: str, *parts: bytes) -> bytes:
    """SHA-256 of the transcript; 32 bytes. Copies no part, however long."""
    hashed = hashlib.sha256()
    for piece in _framed(label, parts):
        hashed.update(piece)
    return hashed.digest()


def _framed(label: str, parts: tuple[bytes, ...]) -> list[bytes]:
    pieces = [_head(label)]
    for part in parts:
        pieces.append(len(part).to_bytes(8, "big"))
        pieces.append(part)
    return pieces


@lru_cache(maxsize=64)  # labels are few, and written in the code
def _head(label: str) -> bytes:
    return b"".join(len(part).to_bytes(8, "big") + part for part in (PROTOCOL, label.encode()))


def number(value: int) -> bytes:
    """A non-negative integer below 2^64 as 8 bytes, big-endian, for use as a part."""
    return value.to_bytes(8, "big")
