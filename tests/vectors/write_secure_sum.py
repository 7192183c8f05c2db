"""Writes secure_sum.json: whole rounds with every message, from fixed seeds.

    python tests/vectors/write_secure_sum.py

The test `test_transcript_vectors.py` compares; run this only when the protocol changes on
purpose (then `PROTOCOL` in protocols/transcript.py must change too).
"""

import json
import sys
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

from protocols import participation
from protocols.encapsulation import Encapsulation, encapsulate
from protocols.parameters import JobRules
from tests.protocols.rounds_driver import STATEMENT, Federation, identity_seed, names

LENGTH = 6
CASES: tuple[dict[str, Any], ...] = (
    {"name": "four clients, one lost before its vector", "clients": 4, "server": "malicious"},
    {"name": "three clients, curious server", "clients": 3, "server": "curious"},
)

ServerModel = Literal["malicious", "curious"]


def build(recorded: dict | None = None) -> dict:
    """The document, computed afresh.

    Args:
        recorded: a document whose encapsulations are used again: they come from OpenSSL's
            generator, which nobody can seed.
    """
    again = recorded["cases"] if recorded else [None] * len(CASES)
    return {
        "source": "this project; see PROVENANCE.md",
        "cases": [
            _case(number, **case, again=each)
            for number, (case, each) in enumerate(zip(CASES, again, strict=True))
        ],
    }


class Encapsulations:
    """Fresh ones, noted; or those of a document, in order."""

    def __init__(self, again: dict | None) -> None:
        noted = again["encapsulations_in_order_of_use"] if again else []
        self._left = [Encapsulation(*map(bytes.fromhex, each)) for each in noted]
        self._replay = again is not None
        self.used: list[list[str]] = []

    def __call__(self, to: MLKEM768PublicKey) -> Encapsulation:
        made = self._left.pop(0) if self._replay else encapsulate(to)
        self.used.append([made.secret.hex(), made.ciphertext.hex()])
        return made


def _case(
    number: int,
    name: str,
    clients: int,
    server: ServerModel,
    again: dict | None,
) -> dict:
    made = Encapsulations(again)
    with patch.object(participation, "encapsulate", made):
        return _played(number, name, clients, server, made)


def _played(
    number: int,
    name: str,
    clients: int,
    server: ServerModel,
    made: Encapsulations,
) -> dict:
    job = Federation(JobRules("vectors", LENGTH, server=server), names(clients), seed=f"v{number}")
    vectors = {
        member: np.arange(i, i + LENGTH, dtype=np.uint32) * np.uint32(0x01000193)
        for i, member in enumerate(job.members)
    }
    lost = {job.members[2]: "mask"} if server == "malicious" else {}
    first = job.run(job.server(1), vectors, last="share")
    following = job.server(2)
    first.pipeline(following)
    job.run(first, vectors, lost, first="mask")
    job.run(following, vectors, first="mask")
    return {
        "name": name,
        "job": "vectors",
        "server": server,
        "vector_length": LENGTH,
        "identity_seeds": {n: identity_seed(n).hex() for n in job.members},
        "roster_fingerprint": job.roster.fingerprint,
        "random_bytes_in_order_of_use": {n: [d.hex() for d in x] for n, x in job.drawn.items()},
        "encapsulations_in_order_of_use": made.used,
        "statement": STATEMENT.hex(),
        "vectors": {n: v.tolist() for n, v in vectors.items()},
        "round_digests": {s.rules.round_number: s.rules.digest.hex() for s in (first, following)},
        "messages": [
            {"round": r, "step": step, "direction": to, "client": who, "bytes": data.hex()}
            for r, step, to, who, data in job.log
        ],
        "sums": {s.rules.round_number: s.result()[0].tolist() for s in (first, following)},
        "survivors": {s.rules.round_number: list(s.result()[1]) for s in (first, following)},
    }


if __name__ == "__main__":
    path = Path(__file__).parent / "secure_sum.json"
    path.write_text(json.dumps(build(), indent=1) + "\n")
