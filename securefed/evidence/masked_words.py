"""What travelled under masks, read byte by byte, without what reads and opens it elsewhere.

A build that masks wrongly reads its own messages back in the same wrong way. So the bytes are taken
apart here once more, by docs/protocol.md alone: msgpack without types, words unpacked bit by bit,
and the self masks that the hospitals gave the server shares of put together by Shamir's formula,
HKDF and AES-256-CTR of `cryptography`.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocols.parameters import JobRules
from securefed.evidence.uniform_words import Words, reduced
from securefed.record import jobs
from securefed.record.jobs import Job
from securefed.record.recording import Sighting, content, sightings
from securefed.run_directory import Run
from securefed.wire.plan import Step

PRIME = 2**256 + 297
ROWS = 32  # of packed words
Shares = dict[int, int]  # point -> value


@dataclass(frozen=True, eq=False)
class Masked:
    """One masked vector as it travelled.

    Attributes:
        sum: number of the secure sum, within its job.
        place: of the hospital in the sum's cohort.
        words: (N,) below 2^bits.
        padding: what fills up a packed message; zeros.
        self_mask_key: of what the server could take off, from the shares that it got; None where
            they are not there.
    """

    hospital: str
    step: Step
    job: int
    sum: int
    place: int
    bits: int
    words: Words = field(repr=False)
    padding: Words = field(repr=False)
    self_mask_key: bytes | None = field(default=None, repr=False)

    @property
    def round(self) -> int:
        return self.step.round

    @property
    def trains(self) -> bool:
        return self.step.train

    @property
    def opened(self) -> Words | None:
        """The words without the self mask, as the server had them, (N,)."""
        if self.self_mask_key is None:
            return None
        stream = Cipher(algorithms.AES256(self.self_mask_key), modes.CTR(bytes(16))).encryptor()
        mask = np.frombuffer(stream.update(bytes(4 * self.words.size)), "<u4")
        return reduced(self.words - mask, self.bits)

    def beginning(self, words: int) -> "Masked":
        """The same of the first words."""
        return replace(self, words=self.words[:words])

    def __str__(self) -> str:
        if self.step.describes:
            return f"sum {self.step.describes} over scans"
        what = "" if self.trains else "the scores before "
        return f"{what}round {self.round}"


@dataclass
class _Sum:
    """What was said of one secure sum, by place: digest and commitment, shares by their owner."""

    promised: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    shares: defaultdict[int, Shares] = field(default_factory=lambda: defaultdict(dict))


def masked_words(run: Run) -> tuple[Masked, ...]:
    """Every masked vector of the recording that was kept and can be read, in order.

    What cannot be read was no masked vector, and the server dropped it; `playback` says so.
    """
    sums: defaultdict[tuple[int, int], _Sum] = defaultdict(_Sum)
    found: list[Masked] = []
    begun = jobs.read(run.exposures)
    for job, seen, data in _messages(run, begun):
        try:
            _, stage, body, refusal, *_ = msgspec.msgpack.decode(data)
            if refusal:
                continue
            if stage == "work":
                found.append(_masked(run, begun[job].rules, job, seen, body, sums))
            elif stage in ("advertise", "unmask"):
                _take(msgspec.msgpack.decode(body), job, sums)
        except (ValueError, TypeError, KeyError, IndexError):  # msgspec's errors among them
            continue
    return tuple(replace(each, self_mask_key=_self_mask_key(each, sums)) for each in found)


def _messages(run: Run, begun: Sequence[Job]) -> Iterator[tuple[int, Sighting, bytes]]:
    """What hospitals sent, with the position of the job."""
    for position, seen in enumerate(sightings(run.exposures)):
        if seen.direction == "up" and seen.offset is not None:
            job = sum(each.first <= position for each in begun) - 1
            yield job, seen, content(run.exposures, seen)


def _masked(
    run: Run,
    rules: JobRules | None,
    job: int,
    seen: Sighting,
    body: bytes,
    sums: dict[tuple[int, int], _Sum],
) -> Masked:
    step = run.job.plan.step(seen.round)
    if rules is None or step is None:
        raise ValueError
    end = 4 + int.from_bytes(body[:4], "big")
    _, place, number, _, _, upcoming = msgspec.msgpack.decode(body[4:end])
    if upcoming is not None:
        _take(upcoming, job, sums)
    # Training vectors are as wide as agreed, all others have whole words.
    length = rules.vector_length if step.train else rules.other_lengths[bool(step.describes)]
    bits = rules.modulus_bits if step.train else 32
    raw = np.frombuffer(body, "<u4", offset=-(-end // 4) * 4)
    words, padding = (raw, raw[:0]) if bits == 32 else _unpacked(raw, length, bits)
    if words.size != length:
        raise ValueError
    return Masked(seen.client, step, job, number, place, bits, words.copy(), padding)


def _unpacked(raw: Words, length: int, bits: int) -> tuple[Words, Words]:
    """Words and padding: each column of 32 words is one number of 32 * bits bits, lowest first."""
    columns = -(-length // ROWS)
    as_bits = np.unpackbits(
        np.ascontiguousarray(raw.reshape(bits, columns).T).view(np.uint8), bitorder="little"
    ).reshape(columns, ROWS, bits)
    weights = np.uint32(1) << np.arange(bits, dtype=np.uint32)
    words = (as_bits.astype(np.uint32) @ weights).T.reshape(-1).astype(np.uint32)
    return words[:length], words[length:]


def _take(message: Any, job: int, sums: dict[tuple[int, int], _Sum]) -> None:
    """Note digest and commitment of an advert, and the shares of an opening."""
    kind, place, number, *rest = message
    if kind == "advert":
        digest, _, _, _, commitment, _ = rest
        sums[job, number].promised[place] = digest, commitment
    elif kind == "open":
        for _, owner, value in rest[0]:
            sums[job, number].shares[owner][place + 1] = int.from_bytes(value, "big")


def _self_mask_key(one: Masked, sums: dict[tuple[int, int], _Sum]) -> bytes | None:
    of_sum = sums[one.job, one.sum]
    shares, promised = of_sum.shares.get(one.place), of_sum.promised.get(one.place)
    if not shares or promised is None:
        return None
    value, (digest, commitment) = _at_zero(shares), promised
    if value >> 256:
        return None
    seed = value.to_bytes(32, "big")
    ends = (one.place.to_bytes(8, "big"), one.hospital.encode())
    if hashlib.sha256(_framed(b"self-mask commitment", digest, *ends, seed)).digest() != commitment:
        return None  # too few shares, or a wrong one
    return HKDF(SHA256(), 32, digest, _framed(b"self mask", *ends)).derive(seed)


def _framed(*parts: bytes) -> bytes:
    """T of docs/protocol.md."""
    every = (b"securefed secure sum v3", *parts)
    return b"".join(len(part).to_bytes(8, "big") + part for part in every)


def _at_zero(shares: Shares) -> int:
    """Lagrange's formula in Shamir's field."""
    value = 0
    for x, share in shares.items():
        part = share
        for other in shares:
            if other != x:
                part = part * other * pow(other - x, -1, PRIME) % PRIME
        value += part
    return value % PRIME
