"""Secure sums from ten to ten thousand simulated hospitals: what one client pays.

    python benchmarks/secure_aggregation_scale.py [--json] [--plot FILE.svg] [--table FILE.md]
    python benchmarks/secure_aggregation_scale.py --clients 10000 --parameters 100000

Every message is made, sent as bytes, checked and answered by a real client object; a tenth of
the clients drop before sending their vector, after they shared (the expensive moment). Each
client's time is the sum of its own steps. With the k-regular graph, the number of neighbours,
and with it a client's work and bytes beyond its own vector, grows like log n; the complete
graph is the comparison. `floor` is the client's keystream and additions alone. Times are processor
time, but for `wall_seconds`; `load` is how many processes wanted a core on average over the last
minutes, so that a machine that was not quiet shows. All clients live in one process on one thread:
ten thousand take about twenty minutes of a core and 8 GB, since each keeps its neighbours' keys.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import cryptography
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocols.attestations import statement
from protocols.client import SecureSumClient
from protocols.graph import SparseGraph
from protocols.identity import IdentityKey, Roster
from protocols.parameters import JobRules
from protocols.server import SecureSumServer

KINDS = (
    "k-regular, curious server",
    "k-regular, malicious server",
    "complete, malicious server",
)
STEPS = ("advertise", "share", "mask", "confirm", "unmask")
ASKED = statement(b"benchmark")


def mask_seconds(parameters: int) -> float:
    """One mask over the vector: keystream and addition alone."""
    chunk = min(2**16, parameters)
    keystream, zeros = bytearray(4 * chunk + 15), bytes(4 * chunk)
    words = np.frombuffer(keystream, dtype="<u4", count=chunk)
    total = np.zeros(chunk, dtype=np.uint32)
    encryptor = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
    samples = []
    for _ in range(50):
        started = time.perf_counter()
        encryptor.update_into(zeros, keystream)
        np.add(total, words, out=total)
        samples.append(time.perf_counter() - started)
    return statistics.median(samples) * parameters / chunk


def measure(clients: int, parameters: int, dropping: float, rules: JobRules) -> dict[str, Any]:
    """One whole round; checks the sum against the plain one."""
    members = [f"clinic-{i:04d}" for i in range(clients)]
    keys = {name: IdentityKey.generate() for name in members}
    roster = Roster({name: key.public for name, key in keys.items()})
    people = {n: SecureSumClient(n, key, roster, rules) for n, key in keys.items()}
    rng = np.random.default_rng(clients)
    lost = set(rng.choice(members, int(clients * dropping), replace=False).tolist())
    seconds: dict[str, float] = defaultdict(float)
    up: Counter[str] = Counter()
    down: Counter[str] = Counter()
    expected = np.zeros(parameters, dtype=np.uint32)
    began = time.perf_counter()
    server_began = time.process_time()
    server = SecureSumServer(roster, rules, 1, members)
    server_seconds = time.process_time() - server_began
    for step in STEPS:
        if step == "confirm" and not rules.consistency:
            continue
        server_began = time.process_time()
        requests = getattr(server, f"request_{step}")(*([ASKED] if step == "mask" else []))
        server_seconds += time.process_time() - server_began
        replies = {}
        for place, name in enumerate(list(requests), start=1):
            request = requests.pop(name)  # of ten thousand they are gigabytes
            down[name] += len(request)
            if not place % 500:
                print(f"{clients} clients, {step}: {place} answered", file=sys.stderr, flush=True)
            if step == "mask" and name in lost:
                continue
            vector = rng.integers(0, 2**32, parameters, dtype=np.uint32) if step == "mask" else None
            started = time.process_time()
            extra = () if vector is None else (vector, ASKED)
            reply = getattr(people[name], step)(request, *extra)
            seconds[name] += time.process_time() - started
            up[name] += len(reply)
            if vector is None:
                replies[name] = reply
                continue
            expected += vector
            server_began = time.process_time()
            server.add_masked(name, reply)
            server_seconds += time.process_time() - server_began
        server_began = time.process_time()
        getattr(server, f"receive_{step}")(replies)
        del replies
        server_seconds += time.process_time() - server_began
    server_began = time.process_time()
    total, survivors = server.result()
    server_seconds += time.process_time() - server_began
    wall = time.perf_counter() - began
    assert len(survivors) == clients - len(lost)
    np.testing.assert_array_equal(total, expected)
    stayed = [name for name in members if name not in lost]
    degree = server.rules.degree
    client = statistics.median(seconds[name] for name in stayed)
    floor = (degree + 1) * mask_seconds(parameters)
    found = rules.neighbour_plan(clients)
    return {
        "case": f"{clients} clients, {rules.server} server, "
        + ("complete graph" if server.rules.complete else "k-regular graph"),
        "ours": client,
        "peers": {},
        "floor": floor,
        "times_better": {},
        "of_floor": client / floor,
        "clients": clients,
        "neighbours": degree,
        "share_threshold": server.rules.share_threshold,
        "privacy_failure": found.privacy_failure if found else 0.0,
        "abort_failure": found.abort_failure if found else 0.0,
        "overhead_bytes_up": statistics.median(up[name] for name in stayed) - 4 * parameters,
        "bytes_down": statistics.median(down[name] for name in stayed),
        "server_cpu_seconds": server_seconds,
        "wall_seconds": wall,
        "load": os.getloadavg()[2],
        "process_peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def table(cases: list[dict[str, Any]]) -> str:
    """The cases as a Markdown table."""
    lines = [
        "| case | neighbours | threshold | a job leaks (at most) | a round aborts (at most) |"
        " client ms | bytes up beside the vector | bytes down | server s | wall s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    # In a small cohort the k-regular graph is the complete one: one row is enough.
    for c in {c["case"]: c for c in cases}.values():
        complete = c["neighbours"] == c["clients"] - 1
        odds = ["by threshold"] * 2 if complete else [
            f"{c['privacy_failure']:.1e}", f"{c['abort_failure']:.1e}"
        ]  # fmt: skip
        lines.append(
            f"| {c['case']} | {c['neighbours']} | {c['share_threshold']} of {c['neighbours'] + 1}"
            f" | {odds[0]} | {odds[1]} | {c['ours'] * 1e3:.1f} | {c['overhead_bytes_up']:,.0f}"
            f" | {c['bytes_down']:,.0f} | {c['server_cpu_seconds']:.2f} | {c['wall_seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def plot(cases: list[dict[str, Any]], path: Path) -> None:
    """Client seconds and bytes over the cohort's size, one line for each kind of round."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "securefed"  # the same file for the same figures
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    kinds = dict.fromkeys(c["kind"] for c in cases)
    for kind, marker in zip(kinds, "os^d", strict=False):
        rows = [c for c in cases if c["kind"] == kind]
        sizes = [c["clients"] for c in rows]
        left.plot(sizes, [c["ours"] * 1e3 for c in rows], marker=marker, label=kind)
        overhead = [(c["overhead_bytes_up"] + c["bytes_down"]) / 1000 for c in rows]
        right.plot(sizes, overhead, marker=marker, label=kind)
    for axes, what in ((left, "client time, ms a round"), (right, "client traffic, kB a round")):
        axes.set(xscale="log", yscale="log", xlabel="clients in the cohort", ylabel=what)
        axes.grid(True, which="both", alpha=0.25)
    left.legend(frameon=False)
    figure.suptitle("What one client pays beside sending its own vector")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object and no table")
    parser.add_argument("--clients", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--parameters", type=int, default=100_000)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--dropping", type=float, default=0.1)
    parser.add_argument("--complete-up-to", type=int, default=300, help="compare, up to this size")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--table", type=Path)
    chosen = parser.parse_args()
    cases = []
    sparse = SparseGraph(max_corrupt_fraction=0.05, max_dropout_fraction=chosen.dropping)
    for clients in chosen.clients:
        for kind in chosen.kinds:
            graph = sparse if kind.startswith("k-regular") else None
            if graph is None and clients > chosen.complete_up_to:
                continue
            rules = JobRules(
                "scale",
                chosen.parameters,
                server="curious" if "curious" in kind else "malicious",
                sparse=graph,
            )
            case = measure(clients, chosen.parameters, chosen.dropping, rules) | {"kind": kind}
            cases.append(case)
            if not chosen.json:
                print(table([case]).splitlines()[-1], flush=True)
    if chosen.table:
        chosen.table.write_text(table(cases))
    if chosen.plot:
        plot(cases, chosen.plot)
    if chosen.json:
        report = {
            "name": "secure_aggregation_scale",
            "unit": "client processor seconds for a round",
            "better": "lower",
            "repetitions": 1,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "cryptography": cryptography.__version__,
            },
            "cases": cases,
        }
        print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
