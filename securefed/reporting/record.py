"""From the files of a run directory to the facts of its report.

The order of work: read, count and compose what can be computed again (egress, ledgers), say who
sees what, then draw the few conclusions that stand on the page: verdicts, risks, answers to
questions. Nothing is taken on trust that can be recomputed cheaply; what the run recorded and the
ledgers say must agree, or the report is refused.
"""

import math
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from securefed import __version__
from securefed.errors import RunError
from securefed.reporting.audit_file import read_audit
from securefed.reporting.compared import read_comparison
from securefed.reporting.egress import egress
from securefed.reporting.facts import (
    Audit,
    Confusion,
    Hospital,
    InputFile,
    LedgerFacts,
    Privacy,
    Report,
    Round,
    RunFacts,
    Setting,
    Utility,
    Verdict,
)
from securefed.reporting.glossary import GLOSSARY, LIMITS
from securefed.reporting.ledgers import read_ledgers
from securefed.reporting.questions import answers
from securefed.reporting.risks import merged, risks
from securefed.reporting.sights import sights
from securefed.reporting.sources import MetricsLine, RunFile, Sources, SummaryFile, flat, read_run
from securefed.reporting.words import upper

# run.json and ledger compute the same history; different machines may round differently.
SAME_EPSILON = 1e-6

VERDICT_WORDS: dict[Verdict, str] = {
    "PASS": "The attacks that were run found less than the policy allows, and their controls "
    "stand. It does not say that no attack could.",
    "FAIL": "An attack whose controls stand found more than the policy allows.",
    "INCONCLUSIVE": "The attacks could not decide: intervals hold their thresholds, or power was "
    "too small. This is not a pass.",
    "INVALID": "A control failed, so the attacks it speaks for prove nothing either way.",
    "NOT AUDITED": "Nobody has attacked this run, so nobody knows what attackers learn from it. "
    "The command is: securefed audit RUN_DIRECTORY",
}


def report_on(directory: Path, inputs: list[InputFile]) -> Report:
    """The facts of a run or compare directory.

    Args:
        inputs: every file of it, hashed (integrity.inventory).

    Raises:
        RunError: neither a run nor a comparison, or a damaged file.
    """
    if not directory.is_dir():
        raise RunError(f"there is no directory {directory}", hint="give a run directory")
    compare = (directory / "compare.json").is_file()
    if not compare and not (directory / "run.json").is_file():
        raise RunError(
            f"{directory} holds neither a run (run.json) nor a comparison (compare.json)",
            hint="give the directory that --out of securefed run or compare named",
        )
    folders = run_folders(directory) if compare else [directory]
    runs = [run_facts(folder, directory) for folder in folders]
    return Report(
        schema=1,
        kind="compare" if compare else "run",
        title=directory.resolve().name,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        securefed=__version__,
        runs=runs,
        comparison=read_comparison(directory / "compare.json") if compare else None,
        risks=merged([risk for run in runs for risk in risks(run)]),
        questions=answers(runs),
        limits=LIMITS,
        glossary=GLOSSARY,
        inputs=inputs,
    )


def run_folders(directory: Path) -> list[Path]:
    """Finished runs below a compare directory, by path; baselines' folders are no runs."""
    found = sorted(path.parent for path in directory.rglob("summary.json"))
    return [folder for folder in found if (folder / "run.json").is_file()]


def run_facts(folder: Path, directory: Path) -> RunFacts:
    """Everything about one run.

    Raises:
        RunError: a damaged file, or files that contradict each other.
        PrivacyError: a damaged ledger.
    """
    sources = read_run(folder)
    run, summary = sources.run, sources.summary
    if run.configuration != summary.configuration:
        raise RunError(
            f"{folder}: run.json is of a {run.configuration} run, summary.json of a "
            f"{summary.configuration} one"
        )
    ledgers = read_ledgers(folder)
    _require_same_epsilon(folder, summary, ledgers)
    audit = read_audit(folder, run.run, run.configuration)
    verdict: Verdict = audit.verdict if audit else "NOT AUDITED"
    privacy = _privacy(run, summary)
    settings = run.settings
    return RunFacts(
        folder="" if folder == directory else folder.relative_to(directory).as_posix(),
        run=run.run,
        configuration=run.configuration,
        verdict=verdict,
        verdict_words=VERDICT_WORDS[verdict],
        data_kind=run.data.kind,
        two_hospitals=summary.clients == 2,
        rounds=summary.rounds,
        clients=summary.clients,
        privacy=privacy,
        sights=sights(
            run.configuration,
            summary.clients,
            privacy.placement,
            int(settings.get("privacy", {}).get("colluding", 1)),
            f"epsilon {upper(privacy.epsilon)}" if privacy.epsilon else "",
        ),
        utility=_utility(sources),
        hospitals=_hospitals(sources),
        curve=_curve(sources.metrics),
        ledgers=ledgers,
        egress=egress(folder, sources.metrics),
        audit=audit,
        wall_seconds=summary.wall_seconds,
        settings=[Setting(key=key, value=value) for key, value in flat(settings)],
        environment=_environment(run, audit),
        warnings=run.data.warnings,
    )


def _require_same_epsilon(folder: Path, summary: SummaryFile, ledgers: list[LedgerFacts]) -> None:
    by_client = summary.epsilon_by_client or {}
    for ledger in ledgers:
        claimed = by_client.get(ledger.hospital)
        spent = ledger.epsilon_rdp if summary.accountant == "rdp" else ledger.epsilon_prv
        if claimed is None or spent is None:
            continue
        if spent > claimed + SAME_EPSILON:
            raise RunError(
                f"{folder}: the ledger of {ledger.hospital} holds epsilon {upper(spent)}, "
                f"summary.json claims {upper(claimed)}",
                hint="summary.json was changed or is older than the ledger; finish the run",
            )


def _privacy(run: RunFile, summary: SummaryFile) -> Privacy:
    noise = str(run.randomness.get("dp_noise_and_sampling", "none"))
    if summary.epsilon is None or summary.delta is None:
        return Privacy(
            dp=False,
            noise=noise,
            sentence="No differential privacy: nothing bounds what the updates and the model tell "
            "about a patient.",
        )
    settings = run.settings.get("privacy", {})
    accountant = (summary.accountant or "").upper()
    return Privacy(
        dp=True,
        sentence=f"Epsilon {upper(summary.epsilon)} at delta {summary.delta:g} per "
        f"{summary.privacy_unit} of a hospital, under add/remove adjacency and Poisson sampling, "
        f"an upper bound by the {accountant} accountant over all {summary.rounds} rounds.",
        epsilon=summary.epsilon,
        delta=summary.delta,
        unit=summary.privacy_unit,
        adjacency="add/remove",
        sampling="Poisson",
        accountant=summary.accountant,
        placement=settings.get("placement"),
        clip_norm=settings.get("clip_norm"),
        noise=noise,
        # Beyond e^500 it is no number that anybody could use.
        odds_factor=math.exp(summary.epsilon) if summary.epsilon < 500 else None,
    )


def _utility(sources: Sources) -> Utility:
    run, summary, found = sources.run, sources.summary, sources.held_out
    if found:
        right = found.confusion.true_positive + found.confusion.true_negative
        if not math.isclose(right, (summary.accuracy or 0.0) * found.patients, abs_tol=1e-6):
            raise RunError(
                f"{sources.folder}: held_out.json counts {right} of {found.patients} patients "
                f"right, summary.json has accuracy {summary.accuracy}",
                hint="one of them was changed; resume the run to write both again",
            )
    return Utility(
        patients=sum(split.test for split in run.data.hospitals.values()),
        training_patients=summary.patients,
        auc=summary.auc,
        auc_ci95=summary.auc_ci95,
        accuracy=summary.accuracy,
        sensitivity=summary.sensitivity,
        specificity=summary.specificity,
        f1=summary.f1,
        local_auc=summary.local_auc,
        confusion=Confusion(**msgspec.structs.asdict(found.confusion)) if found else None,
        roc=found.roc if found else None,
    )


def _hospitals(sources: Sources) -> list[Hospital]:
    return [
        Hospital(
            name=file.name,
            training_patients=file.training_patients,
            held_out_patients=file.held_out_patients,
            auc=file.auc,
            auc_ci95=file.auc_ci95,
            accuracy=file.accuracy,
            local_auc=file.local_auc,
            epsilon=file.epsilon,
        )
        for file in sources.hospitals
    ]


def _curve(lines: list[MetricsLine]) -> list[Round]:
    # A round that was repeated after a crash counts as it went the last time.
    rounds = {line.round: line for line in lines if line.client is None}
    return [
        Round(
            round=line.round,
            survivors=len(line.survivors),
            dropped=len(line.dropped),
            aborted=line.aborted or "",
            loss=line.loss,
            auc=line.auc,
            epsilon=line.epsilon,
            bytes_up=line.bytes_up,
            bytes_down=line.bytes_down,
            seconds=line.wall_s,
        )
        for _, line in sorted(rounds.items())
    ]


def _environment(run: RunFile, audit: Audit | None) -> list[Setting]:
    rows = [("securefed", run.securefed)]
    for group in (run.environment, run.model, run.randomness):
        rows += flat(group)
    if audit:
        rows += [("audit.effort", audit.effort), ("audit.policy", audit.policy)]
    return [Setting(key=key, value=value) for key, value in rows]
