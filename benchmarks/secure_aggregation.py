"""Secure aggregation against Flower's SecAgg+, interleaved in one process.

    python benchmarks/secure_aggregation.py [--json] [--parameters 1000000 10000000]

Both sides do the same work on the same vector: the client turns float32 into integers, masks
with every neighbour and serialises; the server rebuilds secrets, removes masks and decodes.
Flower's side calls Flower's own functions (extra `peers`); where it is not installed its
figures are null. The floor is AES-256-CTR keystream plus one uint32 addition, measured here in
the same process. Times are medians of wall-clock seconds on one thread unless a case says
otherwise; run it on a quiet machine. `cpu_seconds` beside a case is the same in processor time.
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import cryptography
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocols.attestations import statement
from protocols.client import SecureSumClient
from protocols.fixed_point import FixedPoint
from protocols.identity import IdentityKey, Roster
from protocols.parameters import JobRules
from protocols.server import SecureSumServer

VALUE_RANGE = 8.0
PACKED = (28, 20)  # by default, and with ranges close to the updates
ASKED = statement(b"benchmark")
Timing = tuple[float, float]  # wall seconds, processor seconds


def timed(work: Callable[[], Any]) -> tuple[Timing, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    value = work()
    return (time.perf_counter() - wall, time.process_time() - cpu), value


class Ours:
    """A federation of this library, one round at a time."""

    def __init__(
        self, parameters: int, neighbours: int, threads: int, modulus_bits: int = 32
    ) -> None:
        self.members = [f"clinic-{i:02d}" for i in range(neighbours + 1)]
        keys = {name: IdentityKey.generate() for name in self.members}
        self.roster = Roster({name: key.public for name, key in keys.items()})
        self.rules = JobRules("benchmark", parameters, modulus_bits=modulus_bits)
        self.codec = FixedPoint(VALUE_RANGE, len(self.members), modulus_bits=modulus_bits)
        self.threads = threads
        self.clients = {
            name: SecureSumClient(name, key, self.roster, self.rules, threads=threads)
            for name, key in keys.items()
        }
        self.round_number = 0

    def _masked(self, name: str, request: bytes, values: np.ndarray) -> bytes:
        return self.clients[name].mask(request, self.codec.encode(values), ASKED)

    def round(
        self, values: np.ndarray, *, lose_one: bool, clients_timed: int
    ) -> tuple[list[Timing], Timing, int]:
        """(client seconds, server seconds, bytes of one masked vector); checks the sum."""
        self.round_number += 1
        server = SecureSumServer(
            self.roster, self.rules, self.round_number, self.members, threads=self.threads
        )

        def step(name: str) -> None:
            requests = getattr(server, f"request_{name}")()
            replies = {m: getattr(self.clients[m], name)(r) for m, r in requests.items()}
            getattr(server, f"receive_{name}")(replies)

        step("advertise")
        step("share")
        requests = server.request_mask(ASKED)
        if lose_one:
            requests.popitem()
        encoded = self.codec.encode(values)
        timings, size = [], 0
        for i, (name, request) in enumerate(requests.items()):
            if i < clients_timed:
                timing, reply = timed(partial(self._masked, name, request, values))
                timings.append(timing)
            else:
                reply = self.clients[name].mask(request, encoded, ASKED)
            server.add_masked(name, reply)
            size = len(reply)
        server.receive_mask({})
        step("confirm")
        step("unmask")
        server_timing, total = timed(lambda: self.codec.decode(server.result()[0]))
        error = np.abs(total - len(requests) * values.astype(np.float64)).max()
        assert error <= self.codec.error_bound(len(requests)), error
        return timings, server_timing, size

    def peak_vectors(self, values: np.ndarray) -> float:
        """Peak memory of one client's mask step, in vectors of 4 bytes, its input included."""
        self.round_number += 1
        server = SecureSumServer(self.roster, self.rules, self.round_number, self.members)
        for name in ("advertise", "share"):
            requests = getattr(server, f"request_{name}")()
            replies = {m: getattr(self.clients[m], name)(r) for m, r in requests.items()}
            getattr(server, f"receive_{name}")(replies)
        name, request = next(iter(server.request_mask(ASKED).items()))
        encoded = self.codec.encode(values)
        tracemalloc.start()
        self.clients[name].mask(request, encoded, ASKED)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return 1 + peak / encoded.nbytes


class Flower:
    """Flower's SecAgg+, through its own functions. Settings as in Flower's documentation."""

    CLIP, TARGET, MODULUS, MAX_WEIGHT = VALUE_RANGE, 1 << 22, 1 << 32, 1000.0

    def __init__(self, neighbours: int) -> None:
        os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
        base = "flwr.common.secure_aggregation"
        self.mod = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")
        self.key = importlib.import_module(f"{base}.secaggplus_constants").Key
        self.arrays = importlib.import_module(f"{base}.ndarrays_arithmetic")
        self.shamir = importlib.import_module(f"{base}.crypto.shamir")
        self.quantization = importlib.import_module(f"{base}.quantization")
        self.common = importlib.import_module("flwr.common")
        self.config = importlib.import_module("flwr.app").ConfigRecord
        count = neighbours + 1
        self.threshold = 2 * count // 3 + 1
        settings = {
            self.key.SAMPLE_NUMBER: count,
            self.key.SHARE_NUMBER: count,
            self.key.THRESHOLD: self.threshold,
            self.key.CLIPPING_RANGE: self.CLIP,
            self.key.TARGET_RANGE: self.TARGET,
            self.key.MOD_RANGE: self.MODULUS,
            self.key.MAX_WEIGHT: self.MAX_WEIGHT,
        }
        self.states, self.public = {}, {}
        for node in range(1, count + 1):
            state = self.mod.SecAggPlusState()
            state.nid = node
            reply = self.mod._setup(state, settings)
            self.states[node] = state
            self.public[node] = [reply[self.key.PUBLIC_KEY_1], reply[self.key.PUBLIC_KEY_2]]
        self.boxes: dict[int, tuple[list[int], list[bytes]]] = {
            node: ([], []) for node in self.states
        }
        for node, state in self.states.items():
            reply = self.mod._share_keys(
                state, self.config({str(k): v for k, v in self.public.items()})
            )
            destinations, texts = reply[self.key.DESTINATION_LIST], reply[self.key.CIPHERTEXT_LIST]
            for destination, text in zip(destinations, texts, strict=True):
                self.boxes[destination][0].append(node)
                self.boxes[destination][1].append(text)

    def masked(self, node: int, values: np.ndarray) -> list[bytes]:
        sources, texts = self.boxes[node]
        request = {self.key.SOURCE_LIST: sources, self.key.CIPHERTEXT_LIST: texts}
        parameters = self.common.ndarrays_to_parameters([values])
        reply = self.mod._collect_masked_vectors(self.states[node], request, 500, parameters)
        return reply[self.key.MASKED_PARAMETERS]

    def open_all_shares(self) -> None:
        """Fill in what stage 2 of the clients that are not timed would have stored."""
        for node, (sources, texts) in self.boxes.items():
            state = self.states[node]
            for source, text in zip(sources, texts, strict=True):
                plain = self.mod.decrypt(state.ss2_dict[source], text)
                _, _, seed, key = self.mod.share_keys_plaintext_separate(plain)
                state.rd_seed_share_dict[source] = seed
                state.sk1_share_dict[source] = key

    def unmask(self, masked: list[np.ndarray], lost: set[int]) -> list[np.ndarray]:
        """The server's stage 3: rebuild, remove, decode; with threshold-many shares only."""
        active = [node for node in self.states if node not in lost]
        holders = active[: self.threshold]
        shapes = self.arrays.get_parameters_shape(masked)
        for node, state in self.states.items():
            if node not in lost:
                seed = self.shamir.combine_shares(
                    [self.states[h].rd_seed_share_dict[node] for h in holders]
                )
                mask = self.mod.pseudo_rand_gen(seed, self.MODULUS, shapes)
                masked = self.arrays.parameters_subtraction(masked, mask)
                continue
            secret = self.shamir.combine_shares(
                [self.states[h].sk1_share_dict[node] for h in holders]
            )
            for other in active:
                shared = self.mod.generate_shared_key(
                    self.mod.bytes_to_private_key(secret),
                    self.mod.bytes_to_public_key(self.public[other][0]),
                )
                mask = self.mod.pseudo_rand_gen(shared, self.MODULUS, shapes)
                later = node > other
                change = (
                    self.arrays.parameters_addition if later else self.arrays.parameters_subtraction
                )
                masked = change(masked, mask)
            assert state.nid == node
        _, opened = self.arrays.factor_extract(self.arrays.parameters_mod(masked, self.MODULUS))
        return self.quantization.dequantize(opened, self.CLIP, self.TARGET)


def floor_seconds(parameters: int, masks: int) -> float:
    """Keystream and addition alone, for that many masks over the vector, on one thread."""
    chunk = 2**16
    keystream, zeros = bytearray(4 * chunk + 15), bytes(4 * chunk)
    words = np.frombuffer(keystream, dtype="<u4", count=chunk)
    total = np.ones(
        parameters, dtype=np.uint32
    )  # ones: its pages are there before the clock starts
    encryptor = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
    started = time.perf_counter()
    for start in range(0, parameters, chunk):
        part = total[start : start + chunk]
        encryptor.update_into(zeros, keystream)
        np.add(part, words[: part.size], out=part)
    return (time.perf_counter() - started) * masks


def case(
    name: str, ours: list[Timing], peer: list[Timing] | None, why: str, floor: float, masks: int
) -> dict[str, Any]:
    mine = statistics.median(wall for wall, _ in ours)
    theirs = statistics.median(wall for wall, _ in peer) if peer else None
    row: dict[str, Any] = {
        "case": name,
        "ours": mine,
        "peers": {"flwr": theirs},
        "floor": floor,
        "times_better": {"flwr": theirs / mine if theirs else None},
        "of_floor": mine / floor,
        "masks": masks,
        "cpu_seconds": {"ours": statistics.median(cpu for _, cpu in ours)},
    }
    if peer:
        row["cpu_seconds"]["flwr"] = statistics.median(cpu for _, cpu in peer)
    else:
        row["why"] = why
    return row


def measure(parameters: int, neighbours: int, repetitions: int) -> list[dict[str, Any]]:
    values = np.random.default_rng(0).normal(0, 0.05, parameters).astype(np.float32)
    ours = Ours(parameters, neighbours, threads=1)
    why = ""
    flower = None
    try:
        flower = Flower(neighbours)
    except ImportError as error:
        why = f"flwr is not installed (extra `peers`): {error}"
    clients: tuple[list[Timing], list[Timing]] = ([], [])
    servers: dict[bool, tuple[list[Timing], list[Timing]]] = {False: ([], []), True: ([], [])}
    threaded: list[Timing] = []
    floors, size, peer_size = [], 0, 0
    for repetition in range(repetitions):
        floors.append(floor_seconds(parameters, 1))
        for lose_one in (False, True):
            if lose_one and neighbours + 1 - lose_one < ours.rules.threshold(neighbours + 1):
                continue
            timings, server_timing, size = ours.round(values, lose_one=lose_one, clients_timed=2)
            clients[0].extend(timings)
            servers[lose_one][0].append(server_timing)
            if flower:
                timing, blobs = timed(partial(flower.masked, 1, values))
                clients[1].append(timing)
                peer_size = sum(map(len, blobs))
                if not repetition:
                    flower.open_all_shares()
                masked = [flower.common.bytes_to_ndarray(blob) for blob in blobs]
                lost = {neighbours + 1} if lose_one else set()
                timing, _ = timed(partial(flower.unmask, masked, lost))
                servers[lose_one][1].append(timing)
    threads = os.cpu_count() or 1
    if threads > 1:
        parallel = Ours(parameters, neighbours, threads=threads)
        threaded = parallel.round(values, lose_one=False, clients_timed=3)[0]
    floor = statistics.median(floors)
    label = f"{parameters:.0e} parameters, {neighbours} neighbours"
    masks = neighbours + 1
    rows = [case(f"client mask, {label}", *clients, why, floor * masks, masks)]
    rows[0]["nanoseconds_per_parameter_and_mask"] = rows[0]["ours"] / parameters / masks * 1e9
    if threaded:
        row = case(
            f"client mask, {label}, {threads} threads", threaded, None, why, floor * masks, masks
        )
        rows.append(row | {"why": why or "the peer has no threads; compare the case before"})
    for lose_one, samples in servers.items():
        if samples[0]:
            # All survivors' self masks, and the lost client's mask with each of them.
            masks = 2 * neighbours if lose_one else neighbours + 1
            what = f"server unmask, {int(lose_one)} dropped, {label}"
            rows.append(case(what, *samples, why, floor * masks, masks))
    rows.append(
        {
            "case": f"bytes of a masked vector for each parameter, {label}",
            "unit": "bytes",
            "ours": size / parameters,
            "peers": {"flwr": peer_size / parameters if flower else None},
            "floor": 4,
            "times_better": {"flwr": peer_size / size if flower else None},
            "of_floor": size / parameters / 4,
        }
    )
    masks = neighbours + 1
    for bits in PACKED:
        narrow = Ours(parameters, neighbours, threads=1, modulus_bits=bits)
        timings, _, size = narrow.round(values, lose_one=False, clients_timed=2)
        row = case(f"client mask, {bits} bits, {label}", timings, None, "", floor * masks, masks)
        rows.append(row | {"why": "the peer's words have 32 bits, or 64 on the wire"})
        rows.append(
            {
                "case": f"bytes of a masked vector for each parameter, {bits} bits, {label}",
                "unit": "bytes",
                "ours": size / parameters,
                "peers": {"flwr": peer_size / parameters if flower else None},
                "floor": bits / 8,
                "times_better": {"flwr": peer_size / size if flower else None},
                "of_floor": size / parameters / (bits / 8),
            }
        )
    rows.append(
        {
            "case": f"peak memory of a client's mask step, {label}",
            "unit": "vectors",
            "ours": ours.peak_vectors(values),
            "peers": {"flwr": None},
            "floor": 2,
            "times_better": {"flwr": None},
            "of_floor": ours.peak_vectors(values) / 2,
            "why": "not measured for the peer",
        }
    )
    return rows


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "numpy": np.__version__}
    found["cryptography"] = cryptography.__version__
    try:
        found["flwr"] = importlib.import_module("flwr").__version__
    except ImportError:
        found["flwr"] = "not installed"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object and no table")
    parser.add_argument("--parameters", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--neighbours", type=int, nargs="+", default=[2, 5, 16])
    parser.add_argument("--repetitions", type=int, default=3)
    chosen = parser.parse_args()
    cases = []
    for parameters in chosen.parameters:
        for neighbours in chosen.neighbours:
            rows = measure(parameters, neighbours, chosen.repetitions)
            cases += rows
            if not chosen.json:
                for row in rows:
                    ratio = row["times_better"].get("flwr")
                    print(
                        f"{row['case']:72} {row['ours']:9.4f} {row.get('unit', 's')}"
                        f"  {row['of_floor']:5.2f} of floor"
                        + (f"  {ratio:6.1f} times better than flwr" if ratio else "")
                    )
                    sys.stdout.flush()
    if chosen.json:
        report = {
            "name": "secure_aggregation",
            "unit": "seconds",
            "better": "lower",
            "repetitions": chosen.repetitions,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            "versions": versions(),
            "cases": cases,
        }
        print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
