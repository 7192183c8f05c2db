"""What predicting patients from their files takes, beside their encoders alone.

    python benchmarks/predict.py [--json] [--repetitions 5] [--patients 200] [--encoder compact]

A network of random weights is asked about phantom patients of 64 pixels in a manifest of PNG files,
as `securefed predict` does it: rows, pictures, slices, whether they are like others, encoders,
attention, head, lines. The floor is the same pictures, in memory already, through the encoders
alone in chunks of 64. Both take turns in one process with one thread of torch; files are in the
system's cache. `of_floor` of seconds is what somebody waits for: the next pictures are read in a
thread, so a second core must be free. Memory is the largest resident set that a process of its own
adds to its start by predicting, for this many patients and for four times as many (each file named
four times).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from securefed.data.folders import read
from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.data.phantom_files import write_phantoms
from securefed.model.encoders import encode
from securefed.model.encoding import CHUNK
from securefed.model.likeness import Reference
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.prediction.model import ReleasedModel
from securefed.prediction.patients import batches
from securefed.prediction.predict import Predicting
from securefed.training.patients import stack

COPIES = 4
REFERENCES = 100  # patients that say what scans look like


def model_of(encoder: str) -> ReleasedModel:
    torch.manual_seed(0)
    network = FusionNetwork(NetworkShape(encoder=encoder)).eval().requires_grad_(False)
    spec = PhantomSpec(missing_query=0.0, missing_context=0.0)
    others = generate(spec, SiteProfile.draw(spec, 9, seed=6), REFERENCES, seed=6)
    return ReleasedModel(
        network=network,
        max_slices=24,
        example="patient",
        harmonise=False,
        run="",
        digest="0" * 64,
        privacy="none",
        calibration=None,
        reference=Reference.made(stack([each.patient for each in others], 24)),
        cautions=(),
        about={},
    )


def predicted(model: ReleasedModel, manifest: Path) -> None:
    for _ in Predicting(model, manifest, labelled=False).answers():
        pass


def pictures(model: ReleasedModel, manifest: Path) -> list[Tensor]:
    """(n, size, size) uint8 of each modality."""
    rows = read(manifest, model.modalities, labelled=False)
    patients = [each for some, _ in batches(rows, model.image_size, "") for each in some]
    return [
        torch.cat([torch.from_numpy(p.images_of(m)[p.present_of(m)]) for p in patients])
        for m in model.modalities
    ]


@torch.no_grad()
def encoded(model: ReleasedModel, of: list[Tensor]) -> None:
    for encoder, images in zip(model.network.encoders, of, strict=True):
        for part in torch.split(images, CHUNK):
            encode(encoder, part.float() / 255)


def clocked(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds, and processor seconds."""
    start = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def largest() -> float:
    """Megabytes this process had at most. Not getrusage, which has the parent's at the start."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) / 1024


def grown(encoder: str, manifest: Path) -> float:
    """Megabytes of a process of its own."""
    line = [sys.executable, __file__, "--encoder", encoder, "--memory-of", str(manifest)]
    return float(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


def several(manifest: Path) -> Path:
    """The same rows COPIES times, as other patients."""
    head, *rows = manifest.read_text().splitlines()
    copies = [f"copy{n}-{row}" for n in range(COPIES) for row in rows]
    pair = head.split(",").index("pair_id")
    cells = [row.split(",") for row in copies]
    for row in cells:
        row[pair] = ""
    path = manifest.with_name("several.csv")
    path.write_text("\n".join([head, *map(",".join, cells)]) + "\n")
    return path


def measure(encoder: str, patients: int, repetitions: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(Path(folder) / "patients", PhantomSpec(), 2, patients // 2, seed=5)
        manifest = Path(folder) / "patients" / "manifest.csv"
        model = model_of(encoder)
        of = pictures(model, manifest)
        count = sum(map(len, of))
        taken: dict[str, list[tuple[float, float]]] = {"ours": [], "floor": []}
        for _ in range(repetitions + 1):
            taken["ours"].append(clocked(lambda: predicted(model, manifest)))
            taken["floor"].append(clocked(lambda: encoded(model, of)))
        medians = {
            name: [statistics.median(each) for each in zip(*values[1:], strict=True)]
            for name, values in taken.items()
        }
        memory = [grown(encoder, each) for each in (manifest, several(manifest))]
    (ours, ours_cpu), (floor, floor_cpu) = medians["ours"], medians["floor"]
    return {
        "case": f"{encoder}, {patients} patients",
        "ours": ours,
        "peers": {},
        "floor": floor,
        "times_better": {},
        "of_floor": ours / floor,
        "of_floor_processor": ours_cpu / floor_cpu,
        "pictures": count,
        "pictures_per_second": count / ours,
        "megabytes": memory[0],
        "megabytes_four_times_as_many": memory[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--encoder", nargs="+", default=["compact"])
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory_of:
        model = model_of(arguments.encoder[0])
        before = largest()
        predicted(model, arguments.memory_of)
        print(largest() - before)
        return
    found = [measure(each, arguments.patients, arguments.repetitions) for each in arguments.encoder]
    if not arguments.json:
        print(*found, sep="\n")
        return
    keys = {
        "case": "case",
        "pictures_per_second": "pictures a second",
        "of_floor": "seconds, of the floor",
        "of_floor_processor": "processor seconds, of the floor",
        "megabytes": "MB",
        "megabytes_four_times_as_many": "MB, four times the patients",
    }
    report = {
        "name": "predicting patients from files",
        "unit": "seconds",
        "better": "lower",
        "repetitions": arguments.repetitions,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("torch", "numpy", "pillow")},
        "cases": found,
        "table": {
            "columns": list(keys.values()),
            "rows": [[each[key] for key in keys] for each in found],
        },
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
