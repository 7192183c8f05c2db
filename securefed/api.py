"""SecureFed from Python: what `securefed run` and `securefed budget` do, with results as values.

    import securefed

    result = securefed.run({"federation": {"rounds": 20}, "privacy": {"epsilon": 4.0}})
    result.summary.auc, result.guarantee
    result.to_pandas()

The names are also those of the package (`securefed.run`); torch is imported by the first run, not
by `import securefed`. Errors are `securefed.errors`, with a message and a `hint`.

Not covered: audits and reports, which are commands.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from securefed.config import Settings
from securefed.config import load as load_settings
from securefed.errors import ConfigurationError
from securefed.record.results import RunResult, read_run

if TYPE_CHECKING:
    from rich.progress import Progress

    from securefed.budget import Budget
    from securefed.simulation.simulation import Simulation

SettingsLike = Settings | Mapping[str, Any] | str | Path | None


def settings(source: SettingsLike = None) -> Settings:
    """Settings from Settings, a YAML file's path, or a mapping of what differs from the defaults.

    A mapping has the file's sections, {"privacy": {"epsilon": 4.0}}, or dotted keys,
    {"privacy.epsilon": 4.0}, or both.

    Raises:
        ConfigurationError: an unknown key, a wrong value, a contradiction, or no such file.
    """
    if isinstance(source, Settings):
        return source
    if isinstance(source, (str, Path)):
        return load_settings(Path(source), {})
    if source is None or isinstance(source, Mapping):
        return load_settings(None, _dotted(source or {}))
    raise ConfigurationError(
        f"settings must be Settings, a mapping or a path, got {type(source).__name__}",
        hint='for example securefed.run({"privacy": {"epsilon": 4.0}})',
    )


def run(
    source: SettingsLike = None, *, out: str | Path | None = None, progress: bool = False
) -> RunResult:
    """Run a federation to its end, in this process, as `securefed run` does.

    Args:
        source: see `settings`; None runs the defaults.
        out: run directory to make; None: runs/DATE-CONFIGURATION below the working directory.
        progress: show a bar over the rounds, and the run's notes.

    Raises:
        ConfigurationError, DataError, PrivacyError: it cannot start; nothing was trained.
        RunError: `out` is not empty.
        Interrupted: Ctrl-C; finished rounds are on disk, `resume` continues them.
    """
    chosen = settings(source)
    directory = _new_directory(chosen) if out is None else Path(out)
    return _execute(chosen, directory, progress=progress)


def resume(directory: str | Path, *, progress: bool = False) -> RunResult:
    """Continue a run that was stopped, with its own settings; its ledgers go on too.

    Raises:
        RunError: there is no run, it is damaged, or its patients have changed.
        Interrupted: as `run`.
    """
    return _execute(None, Path(directory), progress=progress)


def load(directory: str | Path) -> RunResult:
    """The results of a finished run.

    Raises:
        RunError: there is no finished run, a file is damaged, or of another version.
    """
    return read_run(Path(directory))


def plan(
    source: SettingsLike = None,
    *,
    epsilon: float | None = None,
    noise_multiplier: float | None = None,
    patients: Sequence[int] | Mapping[str, int] | None = None,
) -> "Budget":
    """What a run with these settings costs in privacy; nothing is trained and nothing is spent.

    With an epsilon (or neither: that of the settings) the noise follows, with a noise multiplier
    the epsilon, and with both the rounds they pay for.

    Args:
        source: see `settings`.
        patients: training patients of each hospital (slices where `privacy.unit` is image); None
            takes those of the settings' data.

    Raises:
        ConfigurationError, PrivacyError: what was asked makes no sense, or no noise does it.
        DataError: the patients cannot be read.
    """
    from securefed.budget import plan_budget  # its figures import torch

    chosen = settings(source)
    changes: dict[str, Any] = {"dp": True} | ({} if epsilon is None else {"epsilon": epsilon})
    values = chosen.model_dump()
    values["privacy"] |= changes
    sizes = None if patients is None else _sizes(patients)
    if sizes is not None and len(sizes) > 1 and chosen.privacy.placement == "distributed":
        values["federation"]["clients"] = len(sizes)
    return plan_budget(
        load_settings(None, values),
        sizes=sizes,
        noise_multiplier=noise_multiplier,
        solve_rounds=noise_multiplier is not None and epsilon is not None,
    )


def _sizes(patients: Sequence[int] | Mapping[str, int]) -> dict[str, int]:
    if isinstance(patients, Mapping):
        sizes = dict(patients)
    else:
        sizes = {f"hospital-{number}": count for number, count in enumerate(patients, start=1)}
    if not sizes:
        raise ConfigurationError("patients names no hospital", hint="for example [300, 120, 80]")
    return sizes


def _dotted(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}, "a.c": 2} -> {"a.b": 1, "a.c": 2}; a key given twice is refused."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if not isinstance(key, str):
            raise ConfigurationError(f"keys of settings are text, got {key!r}")
        whole = f"{above}{key}"
        inner = _dotted(value, f"{whole}.") if isinstance(value, Mapping) else {whole: value}
        for name, one in inner.items():
            if name in found:
                raise ConfigurationError(f"{name} is given twice", hint="give it once")
            found[name] = deepcopy(one)
    return found


def _new_directory(chosen: Settings) -> Path:
    now = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    name = f"{now}-{chosen.configuration.replace('+', '-')}"
    path, again = Path("runs") / name, 2
    while path.exists():  # two runs in one second
        path, again = Path("runs") / f"{name}-{again}", again + 1
    return path


def _execute(chosen: Settings | None, directory: Path, *, progress: bool) -> RunResult:
    from securefed.simulation.execution import execute  # imports torch

    with _bar(progress) as bar:
        execute(
            chosen,
            directory,
            resume=chosen is None,
            say=bar.say,
            on_open=bar.open,
            on_round=bar.round,
            # Signals reach the main thread only; elsewhere Ctrl-C is not ours to catch.
            stop_on_ctrl_c=threading.current_thread() is threading.main_thread(),
        )
    return read_run(directory)


class _Bar:
    """A bar over the rounds, and the notes of the run; without `shown` silent."""

    def __init__(self, shown: "Progress | None") -> None:
        self._shown = shown

    def say(self, text: str) -> None:
        if self._shown and self._shown.task_ids:
            self._shown.update(self._shown.task_ids[0], description=text)

    def open(self, simulation: "Simulation") -> None:
        if self._shown:
            for note in simulation.notes:
                self._shown.console.print(f"note: {note}", markup=False, highlight=False)
            server = simulation.server
            self._shown.update(
                self._shown.task_ids[0],
                description="rounds",
                total=server.plan.rounds,
                completed=server.finished,
            )

    def round(self, line: dict[str, Any]) -> None:
        if self._shown:
            self._shown.update(self._shown.task_ids[0], completed=line["round"])


@contextmanager
def _bar(wanted: bool) -> Iterator[_Bar]:
    if not wanted:
        yield _Bar(None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        shown.add_task("starting", total=None)
        yield _Bar(shown)
