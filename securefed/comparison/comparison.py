"""The comparison: run after run, audit after audit, and what came of it in compare.json.

    for each seed
      1. load the patients, once for all cases
      2. each case: find, continue or make its run; score it; audit it
      3. baselines, and the same training on shares of the patients
      hold the run.json files to what may differ
    join the seeds to rows

compare.json is written after every piece of work, with `complete` false until the last, so that
Ctrl-C leaves a table of what is done. Runs of real patients are each accounted by themselves; that
together they say more about the same patients stands in the notes.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from securefed.comparison.content import Found, content, level_text
from securefed.comparison.held_out import HeldOut
from securefed.comparison.plan import (
    MAY_DIFFER,
    Case,
    Plan,
    require_alike,
    splits_fingerprint,
)
from securefed.comparison.rows import Measured, curve_of
from securefed.comparison.runs import (
    State,
    baselines_path,
    finish,
    finish_baselines,
    on_a_share,
    state_of,
)
from securefed.data.load import FederatedData
from securefed.data.source import load_data
from securefed.errors import ConfigurationError
from securefed.model.initial import initial_network
from securefed.model.sharing import flatten, shared_names
from securefed.record.directory import RunDirectory

Audit = Callable[[Path, Callable[[str, float], None]], dict[str, Any]]
"""Audits a finished run, telling what it does and the share done; gives its audit.json."""


class Watch(Protocol):
    """Who is told of the progress; nothing is printed here."""

    def begin(self, kind: str, text: str, size: float) -> None:
        """A piece of work begins.

        Args:
            kind: as in `work_left`, or "found" for what is there already.
            size: how many pieces of its kind it counts for, as in `work_left`.
        """

    def share(self, finished: float) -> None:
        """Of the current piece, 0 to 1."""

    def say(self, text: str) -> None:
        """What the current piece is doing."""

    def note(self, text: str) -> None:
        """For the user to know."""


def run_path(folder: Path, seed: int, name: str) -> Path:
    """Where a run lies within the comparison's directory."""
    return folder / f"seed-{seed}" / name


def work_left(plan: Plan, folder: Path, effort: str | None) -> dict[str, float]:
    """Pieces of work that `folder` does not hold yet, by kind.

    Args:
        effort: of the audits; None for none.

    Returns:
        "run", "audit" and "baselines": how many; "share": the sum of the shares to train on.

    Raises:
        ConfigurationError: a case contradicts the settings.
        RunError: it holds a run of other settings; nothing was changed.
    """
    audited = _audited_before(folder)
    left = dict.fromkeys(("run", "audit", "baselines", "share"), 0.0)
    for seed in plan.seeds:
        for case in plan.cases:
            path = run_path(folder, seed, case.folder)
            left["run"] += state_of(path, plan.settings(case, seed)) is not State.FINISHED
            left["audit"] += bool(effort) and not _is_audited(path, folder, effort, audited)
        place = folder / f"seed-{seed}"
        left["baselines"] += sum(
            not baselines_path(place, level).exists() for level in plan.baselines
        )
        plain = plan.settings(Case("plain", None), seed)
        left["share"] += sum(
            share
            for share, name in _shares(plan)
            if state_of(place / name, plain) is not State.FINISHED
        )
    return left


def compare(
    plan: Plan, folder: Path, watch: Watch, audit: Audit | None = None, effort: str = "default"
) -> dict[str, Any]:
    """Make or find every run of the plan below `folder`; returns the content of compare.json.

    Args:
        audit: None for no audits.
        effort: recorded with the audits; an audit of another effort is made again.

    Raises:
        ConfigurationError, DataError, PrivacyError: the plan cannot be carried out.
        RunError: `folder` holds something else, or runs that differ in what they must share.
        Interrupted: Ctrl-C; everything finished is on disk.
    """
    if audit and not plan.base.exposures.record:
        raise ConfigurationError(
            "an audit reads the recorded messages, and exposures.record is false",
            hint="set it to true, or give --no-audit",
        )
    work_left(plan, folder, effort)  # refuses before anything is trained
    folder.mkdir(parents=True, exist_ok=True)
    found = Found(notes=_notes(plan))
    found.audited = _audited_before(folder)
    for text in found.notes:
        watch.note(text)

    def write(complete: bool) -> dict[str, Any]:
        written = content(plan, found, effort if audit else None, complete)
        RunDirectory(folder).write_json("compare.json", written)
        return written

    for seed in plan.seeds:
        watch.begin("found", f"seed {seed}: reading patients", 1.0)
        first = plan.settings(plan.cases[0], seed)
        data = load_data(first)
        held_out = HeldOut(first, data)
        found.same.append(_same(plan, seed, data))
        records = []
        for case in plan.cases:
            directory = _run(plan, case, seed, folder, data, watch, found)
            found.runs.setdefault(case, []).append(_measure(directory, held_out, seed))
            records.append(directory.read_json("run.json"))
            require_alike(records)
            write(False)
            if audit:
                report = _audit(audit, directory, folder, effort, watch, found)
                found.audits.setdefault(case, {})[seed] = report
                write(False)
        _extras(plan, seed, folder, data, held_out, watch, found)
    return write(True)


def _run(
    plan: Plan,
    case: Case,
    seed: int,
    folder: Path,
    data: FederatedData,
    watch: Watch,
    found: Found,
) -> RunDirectory:
    def note(text: str) -> None:
        if text not in found.notes:
            found.notes.append(text)
            watch.note(text)

    path, settings = run_path(folder, seed, case.folder), plan.settings(case, seed)
    _begin(watch, "run", state_of(path, settings) is State.FINISHED, f"seed {seed}: {case.name}")
    return finish(path, settings, data, watch.share, note)


def _measure(directory: RunDirectory, held_out: HeldOut, seed: int) -> Measured:
    summary = directory.read_json("summary.json")
    return Measured(
        seed=seed,
        counts=held_out.counts(directory),
        curve=curve_of(directory.read_metrics()),
        cost=summary,
        epsilon=summary["epsilon"],
    )


def _audit(
    audit: Audit, directory: RunDirectory, folder: Path, effort: str, watch: Watch, found: Found
) -> dict[str, Any]:
    """The run's audit: as it stands if a comparison of the same effort made it, else anew."""
    path, place = directory.path, directory.path.relative_to(folder).as_posix()
    known = _is_audited(path, folder, effort, found.audited)
    _begin(watch, "audit", known, f"auditing {place}")
    if known:
        return directory.read_json("audit.json")

    def tell(text: str, finished: float) -> None:
        watch.say(text)
        watch.share(finished)

    report = audit(path, tell)
    if (path / "audit.json").exists():
        found.audited[place] = {"effort": effort, "sha256": _sha256(path / "audit.json")}
    watch.share(1.0)
    return report


def _is_audited(
    path: Path, folder: Path, effort: str | None, audited: dict[str, dict[str, str]]
) -> bool:
    file = path / "audit.json"
    known = audited.get(path.relative_to(folder).as_posix())
    # By its hash, because an audit that was stopped, or made by hand, leaves an audit.json too.
    return (
        known is not None
        and file.exists()
        and known
        == {
            "effort": effort,
            "sha256": _sha256(file),
        }
    )


def _extras(
    plan: Plan,
    seed: int,
    folder: Path,
    data: FederatedData,
    held_out: HeldOut,
    watch: Watch,
    found: Found,
) -> None:
    place = folder / f"seed-{seed}"
    for level in plan.baselines:
        known = baselines_path(place, level).exists()
        _begin(watch, "baselines", known, f"seed {seed}: baselines, {level_text(level)}")
        for each in finish_baselines(place, plan, level, seed, data, watch.share):
            measured = Measured(seed, each.counts, each.curve, {"wall_seconds": each.wall_s}, None)
            found.baselines.setdefault((level, each.name), []).append(measured)
    settings = plan.settings(Case("plain", None), seed)
    for share, name in _shares(plan):
        known = state_of(place / name, settings) is State.FINISHED
        _begin(watch, "share", known, f"seed {seed}: {share:.0%} of the training patients", share)
        part = data if share == 1.0 else on_a_share(data, share, seed)
        directory = finish(place / name, settings, part, watch.share, lambda text: None)
        found.shares.setdefault(share, []).append(_measure(directory, held_out, seed))


def _shares(plan: Plan) -> list[tuple[float, str]]:
    """Shares of the training patients and their run's folder; all patients are the run "plain"."""
    part = [(share, f"data-{share * 100:g}-percent") for share in plan.data_shares]
    return [*part, (1.0, "plain")] if part else []


def _begin(watch: Watch, kind: str, known: bool, text: str, size: float = 1.0) -> None:
    watch.begin("found" if known else kind, text, size)


def _notes(plan: Plan) -> list[str]:
    notes = []
    if plan.base.data.manifest is not None and any(case.epsilon for case in plan.cases):
        notes.append(
            f"{plan.runs} runs on the same patients: each epsilon holds for its own run, and who "
            "sees several of their models learns more; a run without DP bounds nothing"
        )
    if plan.refused:
        notes.append(f"no baselines: {plan.refused}")
    return notes


def _same(plan: Plan, seed: int, data: FederatedData) -> dict[str, Any]:
    """Fingerprints of what all runs of a seed share."""
    network, weights_sha256 = initial_network(plan.settings(plan.cases[0], seed))
    names = shared_names(network, plan.base.federation.shared)
    start = flatten(dict(network.named_parameters()), names)
    return {
        "seed": seed,
        "data_sha256": data.fingerprint,
        "splits_sha256": splits_fingerprint(data),
        "public_weights_sha256": weights_sha256,
        "initial_shared_sha256": hashlib.sha256(start.tobytes()).hexdigest(),
        "may_differ": list(MAY_DIFFER),
    }


def _audited_before(folder: Path) -> dict[str, dict[str, str]]:
    """Which audits an earlier comparison finished, from its compare.json."""
    if not (folder / "compare.json").exists():
        return {}
    known = RunDirectory(folder).read_json("compare.json").get("audited")
    return dict(known) if isinstance(known, dict) else {}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
