"""One run from settings to summary.json: what `securefed run`, `securefed.run` and others share.

    1. open the federation, or continue the one on disk
    2. train its rounds, each on disk before the next begins
    3. score the final model, train the baselines if asked, write the results

A start that fails leaves nothing behind, and from the first round on everything that was finished
is kept. One process at a time writes to a run directory and to a ledger.

Who calls learns of the progress through `say`, `on_open` and `on_round`. Nothing is printed here,
and torch's threads and the logger are put back as they were, so that many runs fit into one
process, one after the other.
"""

import logging
import resource
import shlex
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import torch

from securefed.config import Settings
from securefed.data.load import FederatedData
from securefed.errors import DiskFull, Interrupted, PrivacyError
from securefed.files import is_full, only_writer
from securefed.record import metrics
from securefed.record.directory import RunDirectory
from securefed.record.inventory import LOG
from securefed.record.metrics import RoundLine
from securefed.record.summary import Summary
from securefed.run_directory import Run
from securefed.simulation import opening
from securefed.simulation.baselines import train_baselines
from securefed.simulation.hospitals import Gather, here
from securefed.simulation.in_process import cores
from securefed.simulation.progress_figure import draw_progress
from securefed.simulation.results import write_results, write_summary
from securefed.simulation.simulation import Simulation
from securefed.stopping import stop_requests

Say = Callable[[str], None]
OnOpen = Callable[[Simulation], None]
OnRound = Callable[[RoundLine], None]


def _ignore(_: object) -> None:
    """Who does not want to know."""


def _never() -> bool:
    return False


def execute(
    settings: Settings,
    path: Path,
    *,
    data: FederatedData | None = None,
    say: Say = _ignore,
    on_open: OnOpen = _ignore,
    on_round: OnRound = _ignore,
    stop_on_ctrl_c: bool = False,
    gather: Gather = here,
) -> Summary:
    """Run a new federation to its end in the directory `path`.

    Args:
        data: patients that are already loaded, as `load_data(settings)` gives them.
        say: told what is being done before and after the rounds.
        on_open: given the federation before its first round; its `notes` are for the user.
        on_round: given each training round's line of metrics.jsonl.
        stop_on_ctrl_c: during the rounds, Ctrl-C lets the current one end; a second one does not.
            Only in the main thread of a process, as signals are.
        gather: opens the hospitals where they are to work.

    Raises:
        ConfigurationError, DataError, PrivacyError: the run cannot start; nothing was trained, and
            nothing is left of it.
        RunError: the directory is in use.
        DiskFull: every finished round is on disk.
        NothingLearned: no round opened a sum; summary.json says so.
        Interrupted: by Ctrl-C; every finished round is on disk.
    """
    with (
        RunDirectory.new(path) as directory,
        log_file(path / LOG),
        ExitStack() as locks,
    ):
        try:
            simulation = opening.start(settings, directory, say, data=data, gather=gather)
            _lock_ledgers(simulation, locks)
        except KeyboardInterrupt:
            directory.clear()
            raise Interrupted(
                "stopped before the first round; nothing was trained, and nothing is left",
                hint="the same command begins again",
            ) from None
        except BaseException:
            directory.clear()
            raise
        return _to_its_end(simulation, say, on_open, on_round, stop_on_ctrl_c)


def resume(
    run: Run,
    *,
    data: FederatedData | None = None,
    say: Say = _ignore,
    on_open: OnOpen = _ignore,
    on_round: OnRound = _ignore,
    stop_on_ctrl_c: bool = False,
    gather: Gather = here,
) -> Summary:
    """Continue a run after its last finished round; arguments as for `execute`.

    A run that is finished already is left as it is.

    Raises:
        ConfigurationError, DataError, PrivacyError: it cannot go on; nothing was trained.
        RunError: it is damaged, somebody else is writing to it, or its patients have changed.
        DiskFull, NothingLearned, Interrupted: as `execute`.
    """
    if run.finished:
        run.require_learned()
        return run.summary
    with only_writer(run.path), log_file(run.path / LOG), ExitStack() as locks:
        with _everything_kept(run.path):
            simulation = opening.resume(run, say, data=data, gather=gather)
            _lock_ledgers(simulation, locks)
        return _to_its_end(simulation, say, on_open, on_round, stop_on_ctrl_c)


def _to_its_end(
    simulation: Simulation, say: Say, on_open: OnOpen, on_round: OnRound, stop_on_ctrl_c: bool
) -> Summary:
    with _everything_kept(simulation.directory.path):
        on_open(simulation)
        with _threads_shared_by(min(len(simulation.job.hospitals), cores())):
            # Otherwise Ctrl-C stops wherever it finds the program, as before and after the rounds.
            with stop_requests() if stop_on_ctrl_c else nullcontext(_never) as asked:
                _train(simulation, on_round, asked)
            return _finish(simulation, say)


def _lock_ledgers(simulation: Simulation, locks: ExitStack) -> None:
    _room_for_files(len(simulation.ledgers))
    # Two runs over one ledger would each find the budget free, and one stop half-way for it.
    for ledger in simulation.ledgers.values():
        locks.enter_context(only_writer(ledger.path))


def _room_for_files(held: int) -> None:
    """Let this process hold so many files open, and a few hundred beside, as far as it may."""
    needed, (soft, hard) = held + 512, resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


@contextmanager
def _everything_kept(path: Path) -> Iterator[None]:
    """What stops a run that has begun says what is safe, and how it goes on."""
    go_on = f"continue with: securefed run --resume {shlex.quote(str(path))}"
    kept = "every finished round is on disk"
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; {kept}", hint=go_on) from None
    except DiskFull as error:
        raise DiskFull(f"{error}; {kept}", hint=f"free some space, then {go_on}") from None
    except OSError as error:
        if not is_full(error):
            raise
        text = f"{error.strerror} for {path}; {kept}"
        raise DiskFull(text, hint=f"free some space, then {go_on}") from error
    except PrivacyError as error:
        if not isinstance(error.__cause__, sqlite3.OperationalError):
            raise
        # A full disk too: SQLite often does not know why it could not write.
        raise PrivacyError(f"{error}; {kept}", hint=f"{error.hint}; then {go_on}") from error


def _train(simulation: Simulation, on_round: OnRound, asked_to_stop: Callable[[], bool]) -> None:
    planned = simulation.server.rounds
    for record, line in simulation.rounds():
        on_round(line)
        if asked_to_stop() and record.round < planned:
            path = simulation.directory.path
            raise Interrupted(
                f"stopped after round {record.round} of {planned}; everything so far is in {path}",
                hint=f"continue with: securefed run --resume {shlex.quote(str(path))}",
            )


def _finish(simulation: Simulation, say: Say) -> Summary:
    path = simulation.directory.path
    if not any(line.survivors for line in metrics.read(path).rounds):
        write_summary(simulation, None, None)
        Run.open(path).require_learned()
    say("scoring the final model")
    final = simulation.evaluate()
    baselines = None
    if simulation.settings.evaluation.baselines:
        say("training each hospital alone")
        baselines = train_baselines(simulation)
    draw_progress(metrics.read(path), simulation.server.finished, path / "progress.svg")
    return write_results(simulation, final, baselines)


@contextmanager
def _threads_shared_by(workers: int) -> Iterator[None]:
    # Hospitals compute side by side, as many as there are workers.
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _LogFile(logging.FileHandler):
    """A log that a full disk cuts short without a word: what matters is in other files."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Have what is logged here written there, and nowhere else."""
    # What a hospital's own log would hold (reasons of refusals); callers are told of rounds only.
    handler = _LogFile(path, delay=True)
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
