"""One run from settings to summary.json: what `securefed run`, `securefed.run` and others share.

    1. open the federation, or continue the one on disk
    2. train its rounds, each on disk before the next begins
    3. score the final model, train the baselines if asked, write the results

Who calls learns of the progress through `say`, `on_open` and `on_round`. Nothing is printed here,
and torch's threads and the logger are put back as they were, so that many runs fit into one
process, one after the other.
"""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from securefed.config import Settings
from securefed.data.load import FederatedData
from securefed.errors import Interrupted
from securefed.record import metrics
from securefed.record.directory import RunDirectory
from securefed.record.metrics import RoundLine
from securefed.record.summary import Summary
from securefed.run_directory import Run
from securefed.simulation import opening
from securefed.simulation.baselines import train_baselines
from securefed.simulation.progress_figure import draw_progress
from securefed.simulation.results import write_results
from securefed.simulation.simulation import Simulation

Say = Callable[[str], None]
OnOpen = Callable[[Simulation], None]
OnRound = Callable[[RoundLine], None]


def _ignore(_: object) -> None:
    """Who does not want to know."""


def execute(
    settings: Settings,
    path: Path,
    *,
    data: FederatedData | None = None,
    say: Say = _ignore,
    on_open: OnOpen = _ignore,
    on_round: OnRound = _ignore,
    stop_on_ctrl_c: bool = False,
) -> Summary:
    """Run a new federation to its end in the directory `path`.

    Args:
        data: patients that are already loaded, as `load_data(settings)` gives them.
        say: told what is being done before and after the rounds.
        on_open: given the federation before its first round; its `notes` are for the user.
        on_round: given each training round's line of metrics.jsonl.
        stop_on_ctrl_c: during the rounds, Ctrl-C lets the current one end; a second one does not.
            Only in the main thread of a process, as signals are.

    Raises:
        ConfigurationError, DataError, PrivacyError: the run cannot start; nothing was trained.
        RunError: the directory is in use.
        Interrupted: by stop_on_ctrl_c; every finished round is on disk.
    """
    directory = RunDirectory.create(path)
    with _log_file(path / "hospitals.log"):
        simulation = opening.start(settings, directory, say, data=data)
        return _to_its_end(simulation, say, on_open, on_round, stop_on_ctrl_c)


def resume(
    run: Run,
    *,
    data: FederatedData | None = None,
    say: Say = _ignore,
    on_open: OnOpen = _ignore,
    on_round: OnRound = _ignore,
    stop_on_ctrl_c: bool = False,
) -> Summary:
    """Continue a run after its last finished round; arguments as for `execute`.

    A run that is already finished trains nothing and writes its results again.

    Raises:
        ConfigurationError, DataError, PrivacyError: it cannot go on; nothing was trained.
        RunError: it is damaged, or its patients have changed.
        Interrupted: by stop_on_ctrl_c; every finished round is on disk.
    """
    with _log_file(run.path / "hospitals.log"):
        simulation = opening.resume(run, say, data=data)
        return _to_its_end(simulation, say, on_open, on_round, stop_on_ctrl_c)


def _to_its_end(
    simulation: Simulation, say: Say, on_open: OnOpen, on_round: OnRound, stop_on_ctrl_c: bool
) -> Summary:
    on_open(simulation)
    with _threads_shared_by(len(simulation.hospitals)):
        with _stop_requests(stop_on_ctrl_c) as asked:
            _train(simulation, on_round, asked)
        return _finish(simulation, say)


@contextmanager
def _stop_requests(wanted: bool) -> Iterator[list[int]]:
    # Without it Ctrl-C stops wherever it finds the program, as before and after the rounds.
    asked: list[int] = []
    if not wanted:
        yield asked
        return

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _train(simulation: Simulation, on_round: OnRound, asked_to_stop: list[int]) -> None:
    planned = simulation.server.rounds
    for record, line in simulation.rounds():
        on_round(line)
        if asked_to_stop and record.round < planned:
            path = simulation.directory.path
            raise Interrupted(
                f"stopped after round {record.round} of {planned}; everything so far is in {path}",
                hint=f"continue with: securefed run --resume {path}",
            )


def _finish(simulation: Simulation, say: Say) -> Summary:
    say("scoring the final model")
    final = simulation.evaluate()
    baselines = None
    if simulation.settings.evaluation.baselines:
        say("training each hospital alone")
        baselines = train_baselines(simulation)
    summary = write_results(simulation, final, baselines)
    directory = simulation.directory
    draw_progress(metrics.read(directory.path), directory.path / "progress.svg")
    return summary


@contextmanager
def _threads_shared_by(clients: int) -> Iterator[None]:
    # The hospitals compute side by side, each on a thread of its own.
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // clients))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    # What a hospital's own log would hold (reasons of refusals); callers are told of rounds only.
    handler = logging.FileHandler(path, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("securefed")
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
        handler.close()
