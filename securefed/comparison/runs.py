"""Finished, unfinished and missing runs: what a comparison's directory already holds.

    OUT/seed-0/plain/                  a run directory per case and seed
    OUT/seed-0/data-10-percent/        the same on a share of the training patients
    OUT/seed-0/baselines-plain.json    finished baselines; their folders beside it
    OUT/compare.json

A finished run of the same settings and patients is taken as it is; an unfinished one continues
after its last round; a run of other settings is never touched, and stops the comparison before
anything is trained.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from securefed.comparison.plan import Plan, baseline_case
from securefed.config import Settings
from securefed.data.load import FederatedData, fingerprint
from securefed.errors import RunError
from securefed.model.scores import COUNTS
from securefed.record.directory import RunDirectory
from securefed.simulation.baselines import Baseline, alone, modalities, pooled
from securefed.simulation.execution import execute
from securefed.simulation.opening import settings_of
from securefed.simulation.simulation import Simulation

SCHEMA = 1
Share = Callable[[float], None]  # told the finished share of a piece of work, 0 to 1


class State(Enum):
    """What stands in a run's place."""

    MISSING = "missing"
    UNFINISHED = "unfinished"
    FINISHED = "finished"


def state_of(path: Path, settings: Settings) -> State:
    """What stands in `path`.

    Raises:
        RunError: a run of other settings.
    """
    if not (path / "run.json").exists():
        return State.MISSING
    try:
        recorded = settings_of(path)
    except (KeyError, ValueError):
        recorded = None  # of another version, or by hand: not ours to continue
    if recorded != settings:
        raise RunError(
            f"{path} holds a run of other settings",
            hint="choose another --out, or the --config of that comparison",
        )
    finished = (path / "summary.json").exists() and (path / "model.safetensors").exists()
    return State.FINISHED if finished else State.UNFINISHED


def finish(
    path: Path, settings: Settings, data: FederatedData, share: Share, note: Callable[[str], None]
) -> RunDirectory:
    """The finished run of these settings and patients in `path`: as found, continued, or made.

    Raises:
        RunError: a run of other settings or patients.
        Interrupted: Ctrl-C; finished rounds are on disk.
    """
    state = state_of(path, settings)
    directory = RunDirectory(path)
    if state is State.FINISHED:
        if directory.read_json("run.json")["data"]["fingerprint"] != data.fingerprint:
            raise RunError(
                f"{path} holds a run on other patients", hint="choose another --out for these"
            )
        share(1.0)
        return directory

    def tell(simulation: Simulation) -> None:
        for text in simulation.notes:
            note(text)

    execute(
        settings,
        path,
        resume=state is State.UNFINISHED,
        data=data,
        on_open=tell,
        on_round=lambda line: share(line["round"] / settings.federation.rounds),
        stop_on_ctrl_c=True,
    )
    share(1.0)
    return directory


def finish_baselines(
    folder: Path, plan: Plan, level: float | None, seed: int, data: FederatedData, share: Share
) -> list[Baseline]:
    """All baselines of one privacy level and seed, trained unless `folder` holds them.

    Raises:
        RunError: the file is damaged, or of other settings or patients.
    """
    # Those of a run without masks, which change no result.
    settings = plan.settings(baseline_case(level), seed)
    path = baselines_path(folder, level)
    about = {
        "schema": SCHEMA,
        "settings": settings.model_dump(mode="json"),
        "data": data.fingerprint,
    }
    if path.exists():
        return _read_baselines(path, about)
    place = _unused(path.with_suffix(""))
    # Shares of the time, as measured on the default run: each trains as many steps as a run.
    found = [alone(settings, data, place / "alone")]
    share(0.3)
    found.append(pooled(settings, data, place / "pooled"))
    share(0.5)
    found += modalities(settings, data, place)
    share(1.0)
    RunDirectory(folder).write_json(
        path.name, about | {"baselines": [_plain(baseline) for baseline in found]}
    )
    return found


def baselines_path(folder: Path, level: float | None) -> Path:
    """Where finished baselines of a privacy level lie; their folders stand beside it."""
    return folder / f"baselines-{baseline_case(level).folder}.json"


def on_a_share(data: FederatedData, share: float, seed: int) -> FederatedData:
    """The same hospitals with a share of each one's training patients, at least one of a label.

    The patients of a smaller share are among those of a larger one, and held-out patients stay.
    """
    hospitals = []
    for index, hospital in enumerate(data.hospitals):
        order = np.random.default_rng([seed, index]).permutation(len(hospital.train))
        kept: set[int] = set()
        for label in (0, 1):
            mine = [int(row) for row in order if hospital.train[row].label == label]
            kept |= set(mine[: max(1, round(share * len(mine)))] if mine else [])
        train = [patient for row, patient in enumerate(hospital.train) if row in kept]
        hospitals.append(replace(hospital, train=train))
    everyone = (p for each in hospitals for side in (each.train, each.test) for p in side)
    return FederatedData(hospitals, fingerprint(everyone), data.warnings)


def _unused(path: Path) -> Path:
    """`path`, or the first of path-2, path-3, ... where an interrupted attempt left something."""
    attempt, number = path, 1
    while attempt.exists():
        number += 1
        attempt = path.with_name(f"{path.name}-{number}")
    return attempt


def _plain(baseline: Baseline) -> dict[str, Any]:
    counts = {}
    for name, histogram in baseline.counts.items():
        occupied = np.flatnonzero(histogram)
        counts[name] = [[int(place), int(histogram[place])] for place in occupied]
    return {
        "name": baseline.name,
        "counts": counts,  # pairs of place in the histogram and number of patients
        "curve": [list(point) for point in baseline.curve],
        "wall_s": baseline.wall_s,
    }


def _read_baselines(path: Path, about: dict[str, Any]) -> list[Baseline]:
    try:
        stored = json.loads(path.read_bytes())
        if {key: stored[key] for key in about} != about:
            raise RunError(
                f"{path} holds baselines of other settings or patients",
                hint="choose another --out, or the --config of that comparison",
            )
        return [_baseline(each) for each in stored["baselines"]]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise RunError(
            f"cannot read {path}: {type(error).__name__}", hint="delete it to train them again"
        ) from None


def _baseline(stored: dict[str, Any]) -> Baseline:
    counts = {}
    for name, pairs in stored["counts"].items():
        counts[name] = np.zeros(COUNTS, np.int64)
        for place, patients in pairs:
            counts[name][place] = patients
    curve = tuple((int(finished), float(auc)) for finished, auc in stored["curve"])
    return Baseline(stored["name"], counts, curve, float(stored["wall_s"]))
