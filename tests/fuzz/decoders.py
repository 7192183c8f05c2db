"""Every place where bytes from elsewhere enter, as fuzz targets: `one_input` runs one of them.

The first byte of an input picks the target, the rest is the message. Anything a target raises
other than a declared ProtocolError is a finding. Used by `fuzz_decoders.py` (coverage-guided)
and by `test_fuzz_corpus.py` (replays the corpus with every test run).
"""

import base64
import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import numpy as np
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

from protocols import messages as m
from protocols import participation
from protocols.attestations import statement
from protocols.client import SecureSumClient
from protocols.encapsulation import DecapsulationKey, Encapsulation, encapsulate, public_key
from protocols.errors import ProtocolError
from protocols.identity import IdentityKey, Roster
from protocols.key_agreement import EphemeralKey
from protocols.parameters import JobRules
from protocols.server import SecureSumServer
from protocols.shamir import SHARE_BYTES, combine

STEPS = ("advertise", "share", "mask", "confirm", "unmask")
MEMBERS = [f"clinic-{i}" for i in range(4)]
LENGTH = 5
ASKED = statement(b"fuzz")
VECTOR = np.arange(LENGTH, dtype=np.uint32)
CORPUS = Path(__file__).parent / "corpus"


def _stream(name: str) -> Callable[[int], bytes]:
    calls = iter(range(10**9))
    return lambda n: hashlib.shake_256(f"{name}/{next(calls)}".encode()).digest(n)


class Encapsulations:
    """Those of `encapsulations.json`, in order, and fresh ones when they are used up.

    OpenSSL's generator cannot be seeded, and the corpus must hold boxes that open.
    """

    FILE = Path(__file__).parent / "encapsulations.json"

    def __init__(self) -> None:
        kept = json.loads(self.FILE.read_text()) if self.FILE.exists() else []
        self._left = [Encapsulation(*map(bytes.fromhex, each)) for each in kept]
        self.used: list[Encapsulation] = []

    def __call__(self, to: MLKEM768PublicKey) -> Encapsulation:
        self.used.append(self._left.pop(0) if self._left else encapsulate(to))
        return self.used[-1]

    def write(self) -> None:
        pairs = [[each.secret.hex(), each.ciphertext.hex()] for each in self.used]
        self.FILE.write_text(json.dumps(pairs, indent=0) + "\n")


class Moments:
    """One round stopped before each step: the first client and the server as they are then."""

    def __init__(self) -> None:
        self.encapsulations = Encapsulations()
        with patch.object(participation, "encapsulate", self.encapsulations):
            self._play()

    def _play(self) -> None:
        keys = {n: IdentityKey.from_seed(hashlib.sha256(n.encode()).digest()) for n in MEMBERS}
        roster = Roster({n: key.public for n, key in keys.items()})
        rules = JobRules("fuzz", LENGTH)
        clients = {
            n: SecureSumClient(n, key, roster, rules, entropy=_stream(n)) for n, key in keys.items()
        }
        self.victim = clients[MEMBERS[0]]
        server = SecureSumServer(roster, rules, 1, MEMBERS)
        following = SecureSumServer(roster, rules, 2, MEMBERS)
        self.before: dict[str, tuple[int, dict[int, participation.Participation]]] = {}
        self.servers: dict[str, SecureSumServer] = {}
        self.requests: dict[str, bytes] = {}
        self.replies: dict[str, bytes] = {}
        for step in STEPS:
            if step == "mask":
                server.pipeline(following)
            requests = getattr(server, f"request_{step}")(*([ASKED] if step == "mask" else []))
            self.servers[step] = _copy_of(server)
            self.before[step] = self._state()
            replies = {}
            for name, request in requests.items():
                vector = [VECTOR, ASKED] if step == "mask" else []
                replies[name] = getattr(clients[name], step)(request, *vector)
            getattr(server, f"receive_{step}")(replies)
            self.requests[step], self.replies[step] = requests[MEMBERS[0]], replies[MEMBERS[0]]

    def _state(self) -> tuple[int, dict[int, participation.Participation]]:
        rounds: dict[int, participation.Participation] = {}
        for number, state in self.victim._rounds.items():
            rounds[number] = copy.copy(state)
            keys = ("channel_keys", "kem_keys", "pair_keys", "own_seeds", "their_seeds")
            for field in (*keys, "held"):
                setattr(rounds[number], field, dict(getattr(state, field)))
            rounds[number].secrets = copy.copy(state.secrets)
        return self.victim._newest, rounds

    def ask(self, step: str, data: bytes) -> None:
        """Put the client back to before `step` and let it answer."""
        newest, rounds = self.before[step]
        self.victim._newest = newest
        self.victim._rounds = dict(rounds)
        self.victim._newest, self.victim._rounds = self._state()
        getattr(self.victim, step)(data, *([VECTOR, ASKED] if step == "mask" else []))

    def answer(self, step: str, data: bytes) -> None:
        """Hand the server, put back to before `step`, one reply; it must drop, not fail."""
        getattr(_copy_of(self.servers[step]), f"receive_{step}")({MEMBERS[0]: data})


T = TypeVar("T")


def _with_own_collections(value: T) -> T:
    twin = copy.copy(value)
    for field, part in vars(value).items():
        if isinstance(part, dict | set | np.ndarray):
            setattr(twin, field, part.copy())
    return twin


def _copy_of(server: SecureSumServer) -> SecureSumServer:
    """A server whose collections are its own; keys and rules are shared, they do not change."""
    twin = _with_own_collections(server)
    twin._attendance = _with_own_collections(server._attendance)
    twin._sum = _with_own_collections(server._sum)
    twin._sum._attendance = twin._attendance
    if twin._following:
        twin._following = _copy_of(twin._following)
    return twin


MOMENTS = Moments()


def _shares(data: bytes) -> None:
    size = SHARE_BYTES + 1
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    combine([(piece[0], piece[1:]) for piece in pieces], max(1, len(pieces) - 1))


def _key(data: bytes) -> None:
    EphemeralKey(bytes(range(32))).exchange(data)


def _encapsulation(data: bytes) -> None:
    public_key(data)
    DecapsulationKey(bytes(64)).open(data)


TARGETS: tuple[Callable[[bytes], object], ...] = (
    *(lambda data, step=step: MOMENTS.ask(step, data) for step in STEPS),
    *(lambda data, step=step: MOMENTS.answer(step, data) for step in STEPS),
    lambda data: m.decode_masked(data, LENGTH),
    lambda data: m.places(data, 11),
    Roster.from_json,
    _shares,
    _key,
    _encapsulation,
)


def one_input(data: bytes) -> None:
    """Run the target that the first byte picks; only declared refusals are swallowed."""
    if not data:
        return
    target = TARGETS[data[0] % len(TARGETS)]
    try:
        target(data[1:])
    except ProtocolError:
        return


def seeds() -> dict[str, bytes]:
    """Valid inputs of every target: where the fuzzer starts."""
    found = {}
    for number, step in enumerate(STEPS):
        found[f"ask-{step}"] = bytes([number]) + MOMENTS.requests[step]
        found[f"answer-{step}"] = bytes([number + 5]) + MOMENTS.replies[step]
    found["masked"] = b"\x0a" + MOMENTS.replies["mask"]
    found["places"] = b"\x0b\xff\x07"
    keys = {"a": base64.b64encode(IdentityKey.from_seed(bytes(32)).public).decode()}
    found["roster"] = b"\x0c" + json.dumps({"schema": 1, "clients": keys}).encode()
    found["shares"] = b"\x0d" + b"".join(bytes([x]) + bytes(32) + bytes([x]) for x in (1, 2, 3))
    found["key"] = b"\x0e" + bytes(range(32))
    found["encapsulation"] = b"\x0f" + DecapsulationKey(bytes(64)).public
    return found


def write_seeds() -> None:
    """Put the valid inputs into the corpus folder."""
    CORPUS.mkdir(exist_ok=True)
    MOMENTS.encapsulations.write()
    for name, data in seeds().items():
        (CORPUS / name).write_bytes(data)


if __name__ == "__main__":
    write_seeds()
