"""Finished, unfinished and missing runs: what a comparison's directory already holds.

    OUT/seed-0/plain/                  a run directory per case and seed
    OUT/seed-0/data-10-percent/        the same on a share of the training patients
    OUT/seed-0/baselines-plain.json    finished baselines; their folders beside it
    OUT/compare.json

A finished run of the same settings and patients is taken as it is; an unfinished one continues
after its last round; a run of other settings is never touched, and stops the comparison before
anything is trained.
"""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from securefed.comparison.plan import Plan, baseline_case
from securefed.config import Settings
from securefed.data.load import FederatedData, fingerprint
from securefed.errors import RunError
from securefed.evidence import checks as evidence
from securefed.files import LOCK, write_atomically
from securefed.model.class_scores import exact_words
from securefed.model.scores import Counts, whole
from securefed.record import model_file
from securefed.record.comparison import CompareFile, TrainedBaseline, TrainedBaselines
from securefed.record.json_file import decode_file
from securefed.record.run_file import RunFile
from securefed.run_directory import Run
from securefed.simulation import execution
from securefed.simulation.baselines import Baseline, alone, modalities, pooled
from securefed.simulation.simulation import Simulation

OWN = re.compile(rf"seed-\d+|{re.escape(LOCK)}")
Share = Callable[[float], None]  # told the finished share of a piece of work, 0 to 1


class State(Enum):
    """What stands in a run's place."""

    MISSING = "missing"
    UNFINISHED = "unfinished"
    FINISHED = "finished"


def require_own(folder: Path) -> None:
    """Refuse a folder that holds something else than a comparison, begun or finished.

    Raises:
        RunError: it does, or is no folder.
    """
    hint = "choose another --out: a comparison makes its runs itself, in a folder of its own"
    if os.path.lexists(folder) and not folder.is_dir():
        raise RunError(f"{folder} is not a folder", hint=hint)
    if not folder.exists() or (folder / CompareFile.NAME).exists():
        return
    # Before its first run has ended a comparison has no compare.json.
    foreign = [each.name for each in folder.iterdir() if not OWN.fullmatch(each.name)]
    if foreign:
        raise RunError(f"{folder} is not empty and holds no comparison ({min(foreign)})", hint=hint)


def state_of(path: Path, settings: Settings) -> State:
    """What stands in `path`.

    Raises:
        RunError: a run of other settings.
    """
    if not (path / RunFile.NAME).exists():
        return State.MISSING
    run = Run.open(path)
    if run.settings != settings:
        raise RunError(
            f"{path} holds a run of other settings",
            hint="choose another --out, or the --config of that comparison",
        )
    finished = run.finished and (path / model_file.NAME).exists()
    return State.FINISHED if finished else State.UNFINISHED


def finish(
    path: Path, settings: Settings, data: FederatedData, share: Share, note: Callable[[str], None]
) -> Run:
    """The finished run of these settings and patients in `path`: as it is, continued, or made.

    Raises:
        RunError: a run of other settings or patients, or whose files contradict each other.
        Interrupted: Ctrl-C; finished rounds are on disk.
    """
    state = state_of(path, settings)
    if state is not State.FINISHED:
        _train(path, settings, data, state, share, note)
    run = Run.open(path)
    if run.about.data.fingerprint != data.fingerprint:
        raise RunError(
            f"{path} holds a run on other patients", hint="choose another --out for these"
        )
    if state is State.FINISHED:
        evidence.require(run, audit=False)  # an audit that has changed is made again
    share(1.0)
    return run


def _train(
    path: Path,
    settings: Settings,
    data: FederatedData,
    state: State,
    share: Share,
    note: Callable[[str], None],
) -> None:
    def tell(simulation: Simulation) -> None:
        for text in simulation.notes:
            note(text)

    work: Callable[..., object] = partial(execution.execute, settings, path)
    if state is State.UNFINISHED:
        work = partial(execution.resume, Run.open(path))
    work(
        data=data,
        on_open=tell,
        on_round=lambda line: share(line.round / settings.federation.rounds),
        stop_on_ctrl_c=True,
    )


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
    about = settings.model_dump(mode="json")
    if path.exists():
        return _read_baselines(path, about, data)
    place = _unused(path.with_suffix(""))
    # Shares of the time, as measured on the default run: each trains as many steps as a run.
    trained = [alone(settings, data, place / "alone")]
    share(0.3)
    trained.append(pooled(settings, data, place / "pooled"))
    share(0.5)
    trained += modalities(settings, data, place)
    share(1.0)
    stored = TrainedBaselines(
        settings=about, data=data.fingerprint, baselines=tuple(map(_stored, trained))
    )
    write_atomically(path, stored.encode())
    return trained


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
        rows: set[int] = set()
        for label in sorted({patient.label for patient in hospital.train}):
            mine = [int(row) for row in order if hospital.train[row].label == label]
            rows |= set(mine[: max(1, round(share * len(mine)))] if mine else [])
        train = [patient for row, patient in enumerate(hospital.train) if row in rows]
        hospitals.append(replace(hospital, train=train))
    everyone = (p for each in hospitals for side in (each.train, each.test) for p in side)
    return replace(data, hospitals=hospitals, fingerprint=fingerprint(everyone, data.key))


def _unused(path: Path) -> Path:
    """`path`, or the first of path-2, path-3, ... where an interrupted attempt left something."""
    attempt, number = path, 1
    while attempt.exists():
        number += 1
        attempt = path.with_name(f"{path.name}-{number}")
    return attempt


def _stored(baseline: Baseline) -> TrainedBaseline:
    counts = {}
    for name, histogram in baseline.counts.items():
        occupied = np.flatnonzero(histogram)
        counts[name] = tuple((int(place), whole(float(histogram[place]))) for place in occupied)
    return TrainedBaseline(
        name=baseline.name, counts=counts, curve=baseline.curve, wall_s=baseline.wall_s
    )


def _read_baselines(path: Path, settings: dict[str, Any], data: FederatedData) -> list[Baseline]:
    words = exact_words(len(settings["task"]["classes"]))
    try:
        stored = decode_file(path, TrainedBaselines)
        if (stored.settings, stored.data) == (settings, data.fingerprint):
            return [_baseline(each, words) for each in stored.baselines]
    except (RunError, IndexError) as error:
        raise RunError(str(error), hint="delete it to train them again") from None
    raise RunError(
        f"{path} holds baselines of other settings or patients",
        hint="choose another --out, or the --config of that comparison",
    )


def _baseline(stored: TrainedBaseline, words: int) -> Baseline:
    counts: dict[str, Counts] = {}
    for name, pairs in stored.counts.items():
        counts[name] = np.zeros(words)
        for place, patients in pairs:
            counts[name][place] = patients
    return Baseline(stored.name, counts, stored.curve, stored.wall_s)
