"""Runs whole rounds between real clients and a real server, in memory, with chosen dropouts."""

import hashlib
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from protocols.attestations import statement
from protocols.client import SecureSumClient
from protocols.identity import IdentityKey, Roster
from protocols.mask_stream import Words
from protocols.parameters import JobRules
from protocols.server import SecureSumServer

STEPS = ("advertise", "share", "mask", "confirm", "unmask")
STATEMENT = statement(b"asked by the tests")


def names(count: int) -> list[str]:
    return [f"clinic-{i:04d}" for i in range(count)]


def identity_seed(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def identities(members: Collection[str]) -> dict[str, IdentityKey]:
    return {n: IdentityKey.from_seed(identity_seed(n)) for n in members}


def stream(seed: str) -> Callable[[int], bytes]:
    """A deterministic source of bytes; never the same twice within one stream."""
    calls = iter(range(10**9))
    return lambda n: hashlib.shake_256(f"{seed}/{next(calls)}".encode()).digest(n)


def requests_of(server: SecureSumServer, step: str) -> dict[str, bytes]:
    """The server's requests of one step, whichever it is."""
    arguments = [STATEMENT] if step == "mask" else []
    return getattr(server, f"request_{step}")(*arguments)


def answer(
    client: SecureSumClient,
    step: str,
    request: bytes,
    vector: Words | None,
    asked: bytes = STATEMENT,
) -> bytes:
    """A client's reply in one step; the vector and what was asked matter to `mask` only."""
    arguments = [vector, asked] if step == "mask" else []
    return getattr(client, step)(request, *arguments)


@dataclass
class Federation:
    """A job with its roster and clients, and the wire between them: `log` has every byte.

    `asked` holds the statement of each client that was asked something else than the others.
    """

    rules: JobRules
    members: list[str]
    seed: str | None = None
    clients: dict[str, SecureSumClient] = field(default_factory=dict)
    log: list[tuple[int, str, str, str, bytes]] = field(default_factory=list)
    drawn: dict[str, list[bytes]] = field(default_factory=dict)
    asked: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = identities(self.members)
        self.roster = Roster({n: k.public for n, k in keys.items()})
        for name, key in keys.items():
            source = os.urandom if self.seed is None else stream(f"{self.seed}/{name}")
            entropy = self._recording(name, source)
            self.clients[name] = SecureSumClient(
                name, key, self.roster, self.rules, entropy=entropy
            )

    def _recording(self, name: str, source: Callable[[int], bytes]) -> Callable[[int], bytes]:
        drawn = self.drawn.setdefault(name, [])

        def entropy(count: int) -> bytes:
            drawn.append(source(count))
            return drawn[-1]

        return entropy

    def server(self, round_number: int = 1, cohort: Collection[str] | None = None):
        return SecureSumServer(self.roster, self.rules, round_number, list(cohort or self.members))

    def exchange(
        self,
        server: SecureSumServer,
        step: str,
        vectors: Mapping[str, Words],
        drop: Mapping[str, str] = {},
    ) -> None:
        """One step: ask everybody, lose the replies of those who drop here, hand in the rest.

        `drop` maps a client to the step whose reply is lost; it stays silent afterwards.
        """
        replies = {}
        number = server.rules.round_number
        for name, request in requests_of(server, step).items():
            if name in drop and STEPS.index(drop[name]) <= STEPS.index(step):
                continue
            self.log.append((number, step, "to", name, request))
            asked = self.asked.get(name, STATEMENT)
            replies[name] = answer(self.clients[name], step, request, vectors.get(name), asked)
            self.log.append((number, step, "from", name, bytes(replies[name])))
        getattr(server, f"receive_{step}")(replies)

    def run(
        self,
        server: SecureSumServer,
        vectors: Mapping[str, Words],
        drop: Mapping[str, str] = {},
        *,
        first: str = "advertise",
        last: str = "unmask",
    ) -> SecureSumServer:
        for step in STEPS[STEPS.index(first) : STEPS.index(last) + 1]:
            if step != "confirm" or self.rules.consistency:
                self.exchange(server, step, vectors, drop)
        return server


def random_vectors(members: Collection[str], length: int, seed: int = 0) -> dict[str, Words]:
    rng = np.random.default_rng(seed)
    return {n: rng.integers(0, 2**32, length, dtype=np.uint32) for n in members}


def plain_sum(vectors: Mapping[str, Words], members: Collection[str]) -> Words:
    """The oracle: Python integers, one entry at a time."""
    columns = zip(*(vectors[name].tolist() for name in members), strict=True)
    return np.array([sum(column) % 2**32 for column in columns], dtype=np.uint32)
