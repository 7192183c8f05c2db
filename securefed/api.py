"""SecureFed from Python: what `securefed run`, `audit` and `budget` do, with runs as values.

    import securefed

    run = securefed.run({"federation": {"rounds": 20}, "privacy": {"epsilon": 4.0}})
    run.summary.auc, run.guarantee
    run.to_pandas()
    securefed.audit(run, effort="quick").verdict

The names are also those of the package (`securefed.run`); torch is imported by the first run, not
by `import securefed`. Errors are `securefed.errors`, with a message and a `hint`.

Not covered: comparisons and reports, which are commands.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from securefed.auditing.choices import ATTACKS, Effort
from securefed.config import Settings
from securefed.config import load as load_settings
from securefed.errors import ConfigurationError, Interrupted
from securefed.exposure import Observer
from securefed.record.audit import AuditFile
from securefed.run_directory import Run
from securefed.settings_file import dotted

if TYPE_CHECKING:
    from securefed.budget import Budget

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
        return load_settings(None, deepcopy(dotted(source or {})))
    raise ConfigurationError(
        f"settings must be Settings, a mapping or a path, got {type(source).__name__}",
        hint='for example securefed.run({"privacy": {"epsilon": 4.0}})',
    )


def run(
    source: SettingsLike = None, *, out: str | Path | None = None, progress: bool = False
) -> Run:
    """Run a federation to its end, in this process, as `securefed run` does.

    Args:
        source: see `settings`; None runs the defaults.
        out: run directory to make; None: runs/DATE-CONFIGURATION below the working directory.
        progress: show a bar over the rounds, and the run's notes.

    Raises:
        ConfigurationError, DataError, PrivacyError: it cannot start; nothing was trained.
        RunError: `out` is not empty, or somebody else is writing there.
        NothingLearned: no round opened a sum, so there is no model; summary.json says so.
        Interrupted: Ctrl-C; finished rounds are on disk, `resume` continues them.
    """
    from securefed.record.directory import named_by_date  # these import torch
    from securefed.simulation.execution import execute

    chosen = settings(source)
    place = named_by_date(chosen.configuration) if out is None else nullcontext(Path(out))
    with place as directory:
        return _to_its_end(directory, partial(execute, chosen, directory), progress=progress)


def resume(directory: str | Path, *, progress: bool = False) -> Run:
    """Continue a run that was stopped, with its own settings; its ledgers go on too.

    One that is finished already is left as it is.

    Raises:
        RunError: there is no run, it is damaged, somebody else is writing to it, or its patients
            have changed.
        NothingLearned, Interrupted: as `run`.
    """
    from securefed.simulation import execution  # imports torch

    begun = Run.open(Path(directory))
    return _to_its_end(begun.path, partial(execution.resume, begun), progress=progress)


def load(directory: str | Path) -> Run:
    """A finished run, all its results read.

    Raises:
        RunError: there is no finished run, a file is damaged, or of another version.
    """
    return open_run(directory).complete()


def open_run(directory: str | Path) -> Run:
    """A run, finished or not; each of its files is read when it is first asked for.

    Raises:
        RunError: there is none, or its run.json is damaged.
    """
    return Run.open(Path(directory))


def audit(
    run: Run | str | Path,
    *,
    effort: Effort = "default",
    observers: Sequence[Observer] | None = None,
    attacks: Sequence[str] = ATTACKS,
    policy: str | Path | None = None,
    progress: bool = False,
) -> AuditFile:
    """Attack a finished run with what each observer saw of it, as `securefed audit` does.

    A verdict of FAIL is an answer, not an error. A `Run` that was opened before keeps the audit
    that it has read.

    Args:
        run: the run, or its directory.
        effort: "quick" takes two minutes, "thorough" up to an hour.
        observers, attacks: who attacks (None: all whose part is there), and with which families.
        policy: YAML file with thresholds and gates; None: the built-in one.
        progress: show a bar.

    Raises:
        RunError: not finished, nothing recorded, or its patients have changed.
        ConfigurationError: the policy cannot be used, or there is no such observer or attack.
        Interrupted: Ctrl-C; what was finished is judged and stands in audit.json.
    """
    from rich.console import Console

    from securefed.auditing import audit as auditing  # the attacks import torch
    from securefed.progress import Bar

    opened = run if isinstance(run, Run) else open_run(run)
    with Bar(Console(stderr=True, quiet=not progress), kept=True) as bar:
        bar.say("reading the run")
        file = auditing.audit(
            opened,
            effort=effort,
            observers=observers,
            attacks=attacks,
            policy=None if policy is None else Path(policy),
            report=lambda text, share: bar.reach(share, text),
        )
    if file.interrupted:
        raise Interrupted(
            f"stopped; what was finished is in {opened.path / AuditFile.NAME}",
            hint="attacks=... and observers=... run the missing parts alone",
        )
    return file


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


def _to_its_end(directory: Path, work: Callable[..., object], *, progress: bool) -> Run:
    from rich.console import Console

    from securefed.progress import Bar, Rounds

    with Bar(Console(stderr=True, quiet=not progress), kept=True) as bar:
        rounds = Rounds(bar)
        work(
            say=rounds.say,
            on_open=rounds.open,
            on_round=rounds.round,
            # Signals reach the main thread only; elsewhere Ctrl-C is not ours to catch.
            stop_on_ctrl_c=threading.current_thread() is threading.main_thread(),
        )
    return load(directory)
