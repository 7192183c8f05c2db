"""A run on Ray's workers, from settings to summary.json."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from securefed.config import Settings
from securefed.engine.ray.cluster import joined
from securefed.record.run_file import RunFile
from securefed.record.summary import Summary
from securefed.run_directory import Run
from securefed.simulation import execution

LOSSES = 3  # of workers, without a round between them: then it is not by chance


def execute(
    settings: Settings,
    path: Path,
    *,
    address: str | None = None,
    workers: int | None = None,
    **progress: Any,
) -> Summary:
    """As `execution.execute`, on the workers of a Ray cluster.

    Args:
        address: of a running cluster; None starts Ray here for this run.
        workers: how many; None for one on each core of the cluster.

    Raises:
        WorkerLost: again and again, or before there was a run to go on with.
        Others as `execution.execute`.
    """
    return _to_its_end(partial(execution.execute, settings, path), path, address, workers, progress)


def resume(
    run: Run, *, address: str | None = None, workers: int | None = None, **progress: Any
) -> Summary:
    """As `execution.resume`, on the workers of a Ray cluster; others as `execute`."""
    return _to_its_end(partial(execution.resume, run), run.path, address, workers, progress)


def _to_its_end(
    begin: Callable[..., Summary],
    path: Path,
    address: str | None,
    workers: int | None,
    progress: dict[str, Any],
) -> Summary:
    with joined(address) as room:
        from securefed.engine.ray.hospitals import WorkerLost, Workers

        losses, told = 0, progress.pop("on_round", _ignore)

        def on_round(line: Any) -> None:
            nonlocal losses
            losses = 0
            told(line)

        work = begin
        while True:
            team = Workers(workers or room)
            try:
                return work(gather=team.gather, on_round=on_round, **progress)
            except WorkerLost:
                losses += 1
                if losses == LOSSES or not (path / RunFile.NAME).is_file():
                    raise
            finally:
                team.end()
            progress.get("say", _ignore)("a worker was lost: taking the run up again")
            work = partial(execution.resume, Run.open(path))


def _ignore(_: object) -> None:
    """Who does not want to know."""
