"""The peer of benchmarks/deployment.py: Flower's SuperLink and SuperNodes on this machine."""

import os
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

from securefed.engine.flare.ports import free_port

APP = Path(__file__).with_name("flower_app")
LONGEST_S = 1800


def seconds_a_round(programs: Path, hospitals: int, words: int, rounds: int) -> float:
    """Median seconds from one round's sum to the next, clients without work, TLS left out.

    Args:
        programs: folder of flower-superlink, flower-supernode and flwr, of an environment of its
            own: Flower's requirements do not fit ours.
        words: float32 values of the model.

    Raises:
        RuntimeError: Flower did not finish.
    """
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder, port = Path(place), free_port()
        (folder / "config.toml").write_text(
            '[superlink]\ndefault = "here"\n\n[superlink.here]\n'
            f'address = "127.0.0.1:{port}"\ninsecure = true\n'
        )
        environment = {**os.environ, "FLWR_HOME": place, "FLWR_TELEMETRY_ENABLED": "0"}
        environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
        environment["OMP_NUM_THREADS"] = "1"  # as our hospitals have

        def start(name: str, *options: object) -> None:
            out = stack.enter_context((folder / f"{name}.out").open("wb"))
            process = subprocess.Popen(
                [programs / name, "--insecure", *map(str, options)],
                stdout=out, stderr=subprocess.STDOUT, env=environment,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.terminate)

        start("flower-superlink", "--port", port, "--disable-runtime-dependency-installation")
        time.sleep(5)  # a node that finds no link waits longer than this before it tries again
        for _ in range(hospitals):
            start("flower-supernode", "--superlink", f"127.0.0.1:{port}", "--port", free_port())
        times = folder / "times"
        config = f'rounds={rounds} words={words} hospitals={hospitals} times="{times}"'
        done = subprocess.run(
            [programs / "flwr", "run", APP, "here", "--stream", "--run-config", config],
            capture_output=True, text=True, env=environment, timeout=LONGEST_S, check=False,
        )  # fmt: skip
        sums = [float(line) for line in times.read_text().split()] if times.exists() else []
        if len(sums) != rounds:
            raise RuntimeError(
                f"Flower made {len(sums)} of {rounds} rounds:\n{done.stdout[-2000:]}"
            )
    return statistics.median(later - sooner for sooner, later in pairwise(sums))
