"""Simulations of many hospitals with few patients each: what one costs beside its training.

    python benchmarks/scale.py [--json] [--hospitals 20 100 300] [--flower PYTHON]
    python benchmarks/scale.py --hospitals 1000 --configurations dp+secure
    python benchmarks/scale.py --hospitals 10000 --configurations dp+secure --rounds 1

`ours` is processor time of a whole round of `securefed run` less that of gradients, clipping and
noise, for each hospital: messages, masks, ledgers, check points, records on disk, the server. It is
of the second of three rounds: the first also exchanges the keys that later ride on others, the last
carries none. With `--rounds 1` it is of the only one, which exchanges its own keys and carries none
for another: as much work in two more exchanges. From 64 hospitals on the graph is sparse. Each case
runs in a process of its own, of which the peak of memory is given. Processor time, for machines
that are not quiet; `wall_s` is as it went, and `load` how many processes wanted a core.

`--flower` names a Python that has `flwr[simulation]`, in an environment of its own. Its clients
hold one array of as many parameters, add one to it and return it; there is no training, no privacy,
no masking, no ledger, no record. It stands beside each case as `flower`: wall time of a round for
each client, over Ray, of which only `wall_s` is the like; its processor time is of the whole run,
without what Ray's own processes took. So there is no ratio.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CONFIGURATIONS = ("plain", "dp", "secure", "dp+secure")
FLOWER_ROUNDS = 3
PARAMETERS = 354  # of the default network's fusion and classifier


def settings_of(hospitals: int, patients: int, configuration: str, rounds: int) -> dict[str, Any]:
    """Small images and few slices: what is measured does not depend on them."""
    sparse = "secure" in configuration and hospitals >= 64
    return {
        "data": {"phantom": {"patients": patients, "test_patients": 4}},
        "model": {"image_size": 32},
        "training": {"batch_size": max(1, patients // 2), "max_slices": 4},
        "privacy": {"dp": "dp" in configuration, "delta": 1e-3},
        "federation": {"clients": hospitals, "rounds": rounds, "timeout_s": 3600.0},
        "secure_aggregation": {
            "enabled": "secure" in configuration,
            "graph": "sparse" if sparse else "complete",
            # Counts of ten thousand hospitals with more would not fit 32 bits.
            **({"max_patients": 1000} if hospitals > 3000 else {}),
        },
        "exposures": {"record": False},
    }


def measure(hospitals: int, patients: int, configuration: str, rounds: int) -> dict[str, Any]:
    """One run in this process."""
    from securefed.config import Settings
    from securefed.simulation import execution
    from securefed.training.trainer import LocalTrainer

    settings = Settings.model_validate(settings_of(hospitals, patients, configuration, rounds))
    trained, steps = [0.0], LocalTrainer.take_steps

    def take_steps(self: Any, *arguments: Any) -> Any:
        began = time.thread_time()
        try:
            return steps(self, *arguments)
        finally:
            trained[0] += time.thread_time() - began

    LocalTrainer.take_steps = take_steps  # type: ignore[method-assign, assignment]
    marks: list[tuple[float, float, float]] = []

    def mark(_: object) -> None:
        marks.append((time.perf_counter(), time.process_time(), trained[0]))
        print(f"{hospitals} {configuration}: {len(marks) - 1} rounds", file=sys.stderr, flush=True)

    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # tokens of these phantoms are not to stay
        summary = execution.execute(settings, Path(folder) / "run", on_open=mark, on_round=mark)
    assert summary.survivors_by_round == (hospitals,) * rounds
    which = min(2, rounds)
    (wall, processor, training), after = marks[which - 1], marks[which]
    training = after[2] - training
    beyond = after[1] - processor - training
    return {
        "case": f"{hospitals} hospitals, {configuration}",
        "ours": 1e3 * beyond / hospitals,
        "peers": {},
        "floor": None,
        "times_better": {},
        "of_floor": None,
        "hospitals": hospitals,
        "patients": patients,
        "rounds": rounds,
        "training_ms": 1e3 * training / hospitals,
        "opening_ms": 1e3 * (marks[0][1] - start) / hospitals,
        "wall_s": after[0] - wall,
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "load": os.getloadavg()[1],
    }


def flower(clients: int) -> dict[str, Any]:
    """Flower's simulation of as many trivial clients; in a Python that has it."""
    import logging

    import numpy as np
    from flwr.client import ClientApp, NumPyClient
    from flwr.common import ndarrays_to_parameters
    from flwr.server import (
        ServerApp,
        ServerAppComponents,
        ServerConfig,
    )
    from flwr.server.strategy import FedAvg
    from flwr.simulation import run_simulation

    logging.getLogger("flwr").setLevel(logging.ERROR)
    ends: list[float] = []

    class Client(NumPyClient):  # type: ignore[misc]
        def fit(self, parameters: Any, config: Any) -> Any:
            return [parameters[0] + 1], 10, {}

    class Strategy(FedAvg):  # type: ignore[misc]
        def aggregate_fit(self, *arguments: Any) -> Any:
            ends.append(time.perf_counter())
            return super().aggregate_fit(*arguments)

    def components(context: Any) -> Any:
        strategy = Strategy(
            fraction_fit=1.0,
            fraction_evaluate=0.0,
            min_fit_clients=clients,
            min_available_clients=clients,
            initial_parameters=ndarrays_to_parameters([np.zeros(PARAMETERS, "float32")]),
        )
        config = ServerConfig(num_rounds=FLOWER_ROUNDS)
        return ServerAppComponents(strategy=strategy, config=config)

    run_simulation(
        ServerApp(server_fn=components),
        ClientApp(client_fn=lambda context: Client().to_client()),
        num_supernodes=clients,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "wall_ms": 1e3 * (ends[-1] - ends[0]) / (FLOWER_ROUNDS - 1) / clients,
        "processor_s": sum(each.ru_utime + each.ru_stime for each in used),
        "load": os.getloadavg()[1],
    }


def apart(python: str, *arguments: str) -> dict[str, Any]:
    """What this script finds in a process of its own."""
    words = [python, __file__, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def versions() -> dict[str, str]:
    import cryptography
    import numpy as np
    import torch

    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "cryptography": cryptography.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--hospitals", type=int, nargs="+", default=[20, 100, 300])
    parser.add_argument("--patients", type=int, default=20)
    parser.add_argument(
        "--configurations", nargs="+", choices=CONFIGURATIONS, default=["plain", "dp+secure"]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--flower", metavar="PYTHON")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--one-flower", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one_flower:
        print(json.dumps(flower(chosen.one_flower)))
        return
    if chosen.one:
        configuration = chosen.configurations[0]
        found = measure(chosen.hospitals[0], chosen.patients, configuration, chosen.rounds)
        print(json.dumps(found))
        return
    cases = []
    for hospitals in chosen.hospitals:
        peer = apart(chosen.flower, "--one-flower", str(hospitals)) if chosen.flower else None
        for configuration in chosen.configurations:
            size = ["--hospitals", str(hospitals), "--patients", str(chosen.patients)]
            size += ["--rounds", str(chosen.rounds)]
            case = apart(sys.executable, "--one", *size, "--configurations", configuration)
            if peer:
                case["flower"] = peer
            cases.append(case)
            if not chosen.json:
                print(
                    f"{case['case']}: {case['ours']:.1f} ms a hospital and round beyond training "
                    f"({case['training_ms']:.1f} ms), opening {case['opening_ms']:.0f} ms, round "
                    f"{case['wall_s']:.1f} s, {case['peak_bytes'] / 2**20:,.0f} MiB, "
                    f"load {case['load']:.1f}"
                    + (f"; Flower {peer['wall_ms']:.1f} ms" if peer else ""),
                    flush=True,
                )
    if chosen.json:
        report = {
            "name": "scale",
            "unit": "milliseconds of processor time for a hospital and round beyond training",
            "better": "lower",
            "repetitions": 1,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            "versions": versions(),
            "cases": cases,
        }
        print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
