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
from pathlib import Path
from typing import Protocol

import msgspec

from securefed.auditing.choices import Effort, require_auditable
from securefed.comparison.audits import audited, is_audited, make_audit
from securefed.comparison.content import Evidence, content, level_text
from securefed.comparison.held_out import HeldOut
from securefed.comparison.plan import (
    MAY_DIFFER,
    Case,
    Plan,
    require_alike,
    splits_fingerprint,
)
from securefed.comparison.rows import Measured
from securefed.comparison.runs import (
    State,
    baselines_path,
    finish,
    finish_baselines,
    on_a_share,
    require_own,
    state_of,
)
from securefed.data.load import FederatedData
from securefed.errors import ConfigurationError
from securefed.files import writing_into
from securefed.model.sharing import flatten, shared_names
from securefed.model.weight_files import digest
from securefed.record.audit import AuditFile
from securefed.record.comparison import Audited, CompareFile, Cost, Same
from securefed.run_directory import Run
from securefed.simulation.patients import load_data
from securefed.wire.description import initial_network


class Watch(Protocol):
    """Who is told of the progress; nothing is printed here."""

    def begin(self, kind: str, text: str, size: float) -> None:
        """A piece of work begins.

        Args:
            kind: as in `work_left`, or "ready" for what is there already.
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


def work_left(plan: Plan, folder: Path, effort: Effort | None) -> dict[str, float]:
    """Pieces of work that `folder` does not hold yet, by kind.

    Args:
        effort: of the audits; None for none.

    Returns:
        "run", "audit" and "baselines": how many; "share": the sum of the shares to train on.

    Raises:
        ConfigurationError: a case contradicts the settings.
        RunError: it is none of a comparison, or holds a run of other settings; nothing was changed.
    """
    require_own(folder)
    before = _audited_before(folder)
    work = dict.fromkeys(("run", "audit", "baselines", "share"), 0.0)
    for seed in plan.seeds:
        for case in plan.cases:
            path = run_path(folder, seed, case.folder)
            work["run"] += state_of(path, plan.settings(case, seed)) is not State.FINISHED
            work["audit"] += bool(effort) and not is_audited(path, folder, effort, before)
        place = folder / f"seed-{seed}"
        work["baselines"] += sum(
            not baselines_path(place, level).exists() for level in plan.baselines
        )
        plain = plan.settings(Case("plain", None), seed)
        work["share"] += sum(
            share
            for share, name in _shares(plan)
            if state_of(place / name, plain) is not State.FINISHED
        )
    return work


def compare(plan: Plan, folder: Path, watch: Watch, effort: Effort | None = None) -> CompareFile:
    """Make or take every run of the plan below `folder`; returns the content of compare.json.

    Args:
        effort: of the audits, None for none; an audit of another effort is made again.

    Raises:
        ConfigurationError, DataError, PrivacyError: the plan cannot be carried out.
        RunError: `folder` holds something else, or runs that differ in what they must share.
        Interrupted, KeyboardInterrupt: Ctrl-C; everything finished is on disk.
    """
    if effort and not plan.base.exposures.record:
        raise ConfigurationError(
            "an audit reads the recorded messages, and exposures.record is false",
            hint="set it to true, or give --no-audit",
        )
    if effort:
        require_auditable(plan.base)
    work_left(plan, folder, effort)  # refuses before anything is trained
    with writing_into(folder):
        return _compare(plan, folder, watch, effort)


def _compare(plan: Plan, folder: Path, watch: Watch, effort: Effort | None) -> CompareFile:
    evidence = Evidence(notes=_notes(plan), audited=_audited_before(folder))
    for text in evidence.notes:
        watch.note(text)

    def write(complete: bool) -> CompareFile:
        written = content(plan, evidence, effort, complete)
        written.write(folder)
        return written

    for seed in plan.seeds:
        watch.begin("ready", f"seed {seed}: reading patients", 1.0)
        first = plan.settings(plan.cases[0], seed)
        data = load_data(first)
        held_out = HeldOut(first, data)
        evidence.same.append(_same(plan, seed, data))
        records = []
        for case in plan.cases:
            run = _run(plan, case, seed, folder, data, watch, evidence)
            evidence.runs.setdefault(case, []).append(_measure(run, held_out, seed))
            records.append(run.about)
            require_alike(records)
            write(False)
            if effort:
                audit = _audit(run, folder, effort, watch, evidence)
                evidence.audits.setdefault(case, {})[seed] = audit
                write(False)
        _extras(plan, seed, folder, data, held_out, watch, evidence)
    return write(True)


def _run(
    plan: Plan,
    case: Case,
    seed: int,
    folder: Path,
    data: FederatedData,
    watch: Watch,
    evidence: Evidence,
) -> Run:
    def note(text: str) -> None:
        if text not in evidence.notes:
            evidence.notes.append(text)
            watch.note(text)

    path, settings = run_path(folder, seed, case.folder), plan.settings(case, seed)
    _begin(watch, "run", state_of(path, settings) is State.FINISHED, f"seed {seed}: {case.name}")
    return finish(path, settings, data, watch.share, note)


def _measure(run: Run, held_out: HeldOut, seed: int) -> Measured:
    return Measured(
        seed=seed,
        counts=held_out.counts(run),
        curve=run.metrics.curve,
        cost=msgspec.convert(run.summary, Cost, from_attributes=True),
        epsilon=run.summary.epsilon,
        noise=run.summary.noise,
    )


def _audit(run: Run, folder: Path, effort: Effort, watch: Watch, evidence: Evidence) -> AuditFile:
    """The run's audit: as it stands if a comparison of the same effort made it, else anew."""
    place = run.path.relative_to(folder).as_posix()
    ready = is_audited(run.path, folder, effort, evidence.audited)
    _begin(watch, "audit", ready, f"auditing {place}")
    if ready:
        return AuditFile.read(run.path)

    def tell(text: str, finished: float) -> None:
        watch.say(text)
        watch.share(finished)

    audit = make_audit(run, effort, tell)
    evidence.audited[place] = audited(run.path, effort)
    watch.share(1.0)
    return audit


def _extras(
    plan: Plan,
    seed: int,
    folder: Path,
    data: FederatedData,
    held_out: HeldOut,
    watch: Watch,
    evidence: Evidence,
) -> None:
    place = folder / f"seed-{seed}"
    for level in plan.baselines:
        ready = baselines_path(place, level).exists()
        _begin(watch, "baselines", ready, f"seed {seed}: baselines, {level_text(level)}")
        for each in finish_baselines(place, plan, level, seed, data, watch.share):
            measured = Measured(seed, each.counts, each.curve, Cost(wall_seconds=each.wall_s), None)
            evidence.baselines.setdefault((level, each.name), []).append(measured)
    settings = plan.settings(Case("plain", None), seed)
    for share, name in _shares(plan):
        ready = state_of(place / name, settings) is State.FINISHED
        _begin(watch, "share", ready, f"seed {seed}: {share:.0%} of the training patients", share)
        part = data if share == 1.0 else on_a_share(data, share, seed)
        run = finish(place / name, settings, part, watch.share, lambda text: None)
        evidence.shares.setdefault(share, []).append(_measure(run, held_out, seed))


def _shares(plan: Plan) -> list[tuple[float, str]]:
    """Shares of the training patients and their run's folder; all patients are the run "plain"."""
    part = [(share, f"data-{share * 100:g}-percent") for share in plan.data_shares]
    return [*part, (1.0, "plain")] if part else []


def _begin(watch: Watch, kind: str, ready: bool, text: str, size: float = 1.0) -> None:
    watch.begin("ready" if ready else kind, text, size)


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


def _same(plan: Plan, seed: int, data: FederatedData) -> Same:
    network, origins = initial_network(plan.settings(plan.cases[0], seed))
    names = shared_names(network, plan.base.federation.shared)
    start = flatten(dict(network.named_parameters()), names)
    return Same(
        seed=seed,
        data_sha256=data.fingerprint,
        splits_sha256=splits_fingerprint(data),
        public_weights_sha256=digest(origins) if origins else None,
        initial_shared_sha256=hashlib.sha256(start.tobytes()).hexdigest(),
        may_differ=MAY_DIFFER,
    )


def _audited_before(folder: Path) -> dict[str, Audited]:
    """Which audits an earlier comparison finished, from its compare.json."""
    if not (folder / CompareFile.NAME).exists():
        return {}
    return dict(CompareFile.read(folder).audited)
