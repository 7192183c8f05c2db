"""Every benchmark that runs by itself within minutes, in one JSON, held against what was published.

    python benchmarks/run_all.py --out FILE [--only noise dp_training ...] [--publish]

Each script is a program of its own, one after the other; what its peers need, and what it does, its
own first lines say. Ratios to peers and to the floor are compared with those of `docs/measured`,
which are of the same two programs on another day: one that is more than 15% worse ends this with
exit code 1. Seconds are not compared, since machines differ. `--publish` makes what was measured
the published figures, and docs/generate_benchmarks.py the page of them.

Not among them are those that take an hour or a run of their own: audit_power, distributed_noise,
encoders, interval_coverage, scale and secure_aggregation_scale up to 10,000 hospitals, soak,
volumes. Nor is institutions, which needs scans that are not here.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MEASURED = HERE.parent / "docs" / "measured"
WORSE = 1.15  # of a ratio: more than two runs on one machine differ

BENCHMARKS: dict[str, tuple[str, ...]] = {
    "attacks": (),
    "dicom_import": (),
    "default_run": (),
    "dp_training": ("--repetitions", "3"),
    "noise": (),
    "secure_aggregation": ("--parameters", "1000000", "10000000"),
}


def measured(name: str) -> dict[str, Any]:
    """What a script reports; `why` in place of its cases where it could not run."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, HERE / f"{name}.py", "--json", *BENCHMARKS[name]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return {"name": name, "cases": [], "why": last[0]}
    report: dict[str, Any] = json.loads(done.stdout)
    return {**report, "seconds": round(time.monotonic() - began)}


def ratios(report: dict[str, Any]) -> dict[tuple[str, int, str], float]:
    """(case, its how many of that name, peer) -> how many times better ours is."""
    seen: dict[str, int] = {}
    found = {}
    for case in report["cases"]:
        name = case["case"]
        seen[name] = number = seen.get(name, 0) + 1
        for peer, ratio in case.get("times_better", {}).items():
            if ratio:
                found[name, number, peer] = ratio
        if case.get("of_floor"):
            worse = case["of_floor"] if report["better"] == "lower" else 1 / case["of_floor"]
            found[name, number, "floor"] = 1 / worse
    return found


def compared(report: dict[str, Any], published: Path) -> Iterator[tuple[str, bool]]:
    """A line for each ratio that was published too, and whether it has become worse."""
    if not published.exists():
        yield f"{report['name']}: nothing was published", False
        return
    before, now = ratios(json.loads(published.read_text())), ratios(report)
    for key in before.keys() & now.keys():
        case, _, peer = key
        change = now[key] / before[key]
        line = f"{report['name']}, {case}, {peer}: {before[key]:.3g} then, {now[key]:.3g} now"
        yield line, change * WORSE < 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="file for the one JSON")
    parser.add_argument("--only", nargs="+", choices=sorted(BENCHMARKS), default=list(BENCHMARKS))
    parser.add_argument("--publish", action="store_true", help="write docs/measured, too")
    told = parser.parse_args()
    reports, worse = [], 0
    for name in told.only:
        print(f"{name} ...", flush=True)
        report = measured(name)
        reports.append(report)
        told.out.write_text(json.dumps({"name": "all", "reports": reports}, indent=1) + "\n")
        if "why" in report:
            print(f"  did not run: {report['why']}")
            continue
        published = MEASURED / f"{name}.json"
        for line, fell in sorted(compared(report, published)):
            print(f"  {'WORSE  ' if fell else ''}{line}")
            worse += fell
        if told.publish:
            published.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(1 if worse else 0)


if __name__ == "__main__":
    main()
