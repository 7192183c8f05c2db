"""From the files of a run directory to the facts of its report.

The order of work: read, count and compose what can be computed again (egress, ledgers), say who
sees what, then draw the few conclusions that stand on the page: verdicts, risks, answers to
questions. Nothing is taken on trust that can be recomputed cheaply; what the run recorded and the
ledgers say must agree, or the report is refused.
"""

import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from securefed import __version__
from securefed.data.manifest import SIMULATIONS
from securefed.errors import RunError
from securefed.privacy.accounting import at_most
from securefed.privacy.accounting import epsilon as epsilon_of
from securefed.privacy.counts import CountNoise
from securefed.record.comparison import CompareFile
from securefed.record.run_file import RunFile
from securefed.record.summary import Scores
from securefed.reporting.audited import audit_facts
from securefed.reporting.compared import comparison_facts
from securefed.reporting.egress import egress
from securefed.reporting.facts import (
    Answer,
    Audit,
    InputFile,
    LedgerFacts,
    Privacy,
    Report,
    RunFacts,
    Setting,
    Utility,
)
from securefed.reporting.glossary import GLOSSARY, LIMITS
from securefed.reporting.ledgers import read_ledgers
from securefed.reporting.outside_epsilon import outside_epsilon
from securefed.reporting.questions import answers
from securefed.reporting.risks import merged, risks
from securefed.reporting.sights import Scored, sights
from securefed.run_directory import ComparedRuns, Run
from securefed.secure_sum import hiding_of
from securefed.settings_file import dotted

# run.json and ledger compute the same history; different machines may round differently.
SAME_EPSILON = 1e-6

VERDICT_WORDS: dict[Answer, str] = {
    "PASS": "The attacks that were run found less than the policy allows, and their controls "
    "stand. It does not say that no attack could.",
    "FAIL": "An attack whose controls stand found more than the policy allows.",
    "INCONCLUSIVE": "The attacks could not decide: intervals hold their thresholds, power was too "
    "small, or not all attacks were run. This is not a pass.",
    "INVALID": "A control failed, so the attacks it speaks for prove nothing either way.",
    "NOT AUDITED": "Nobody has attacked this run, so nobody knows what attackers learn from it. "
    "The command is: securefed audit RUN_DIRECTORY",
}


def subject_of(directory: Path) -> Run | ComparedRuns:
    """What a report can be made on: the run, or the comparison, in a directory.

    Raises:
        RunError: neither, or a damaged file.
    """
    if not directory.is_dir():
        raise RunError(f"there is no directory {directory}", hint="give a run directory")
    if (directory / CompareFile.NAME).is_file():
        return ComparedRuns.open(directory)
    if (directory / RunFile.NAME).is_file():
        return Run.open(directory)
    raise RunError(
        f"{directory} holds neither a run (run.json) nor a comparison (compare.json)",
        hint="give the directory that --out of securefed run or compare named",
    )


def report_on(
    subject: Run | ComparedRuns, inputs: list[InputFile], *, each_hospital: bool = False
) -> Report:
    """The facts of a run or a comparison.

    Args:
        inputs: every file of its directory, hashed (integrity.inventory).
        each_hospital: with each hospital's own numbers, which stay in its folder otherwise.

    Raises:
        RunError: a damaged file, or files that contradict each other.
        PrivacyError: a damaged ledger.
    """
    compared = subject if isinstance(subject, ComparedRuns) else None
    all_runs = (subject,) if isinstance(subject, Run) else subject.runs
    runs = [run_facts(run, subject.path, each_hospital=each_hospital) for run in all_runs]
    return Report(
        kind="compare" if compared else "run",
        title=subject.path.resolve().name,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        securefed=__version__,
        runs=runs,
        comparison=comparison_facts(compared.file) if compared else None,
        risks=merged([risk for run in runs for risk in risks(run)]),
        questions=answers(runs),
        limits=LIMITS,
        glossary=GLOSSARY,
        inputs=inputs,
    )


def run_facts(run: Run, directory: Path, *, each_hospital: bool = False) -> RunFacts:
    """Everything about one run.

    Args:
        directory: the reported one; the run's, or one above it.
        each_hospital: as for `report_on`.

    Raises:
        RunError: a damaged file, or files that contradict each other.
        PrivacyError: a damaged ledger.
    """
    about, summary = run.about, run.summary
    ledgers = read_ledgers(run.path)
    _require_same_epsilon(run, ledgers)
    _require_same_evaluation(run)
    audit = audit_facts(run)
    verdict: Answer = audit.verdict.value if audit else "NOT AUDITED"
    privacy, hidden = _privacy(run), hiding_of(run.settings)
    declared = privacy.dp and run.settings.privacy.patients_epsilon is not None
    # A peer subtracts in the round with the fewest hospitals, not in the largest one.
    smallest_sum = min((n for n in summary.survivors_by_round if n), default=summary.clients)
    return RunFacts(
        folder="" if run.path == directory else run.path.relative_to(directory).as_posix(),
        run=about.run,
        configuration=about.configuration,
        verdict=verdict,
        verdict_words=VERDICT_WORDS[verdict],
        simulation=about.data.simulation,
        canaries=run.settings.canaries.count or None,
        banners=list(_banners(run)),
        two_hospitals=summary.clients == 2,
        rounds=summary.rounds,
        clients=summary.clients,
        privacy=privacy,
        sights=sights(
            about.configuration,
            smallest_sum,
            privacy.placement,
            run.settings.privacy.colluding,
            f"epsilon {at_most(privacy.epsilon)}" if privacy.epsilon else "",
            declared=declared,
            scored=_scored(run),
        ),
        outside_epsilon=outside_epsilon(
            about.configuration,
            declared=declared,
            noised_scores=run.job.score_noise is not None,
            scorings=sum(line.loss is not None for line in run.metrics.rounds),
            audited=audit is not None,
            baselines=run.settings.evaluation.baselines,
            each_hospital=each_hospital,
        ),
        hidden=hidden.sentence if hidden else None,
        utility=_utility(run),
        hospitals=run.hospital_results if each_hospital else (),
        curve=run.metrics.rounds,
        ledgers=ledgers,
        egress=egress(run),
        audit=audit,
        wall_seconds=summary.wall_seconds,
        settings=_rows(about.settings),
        environment=_environment(run, audit),
        warnings=about.data.warnings,
    )


def _banners(run: Run) -> Iterator[str]:
    if run.settings.canaries.count:
        yield (
            f"Made for auditing: {run.settings.canaries.count} made-up records may be among the "
            "patients. Do not use this model for anything else."
        )
    for kind in (run.about.data.simulation or "").split("+"):
        if kind:
            what = SIMULATIONS.get(kind, kind)
            yield f"A simulation, not patients: {what}. Nothing here holds per patient."


def _require_same_epsilon(run: Run, ledgers: list[LedgerFacts]) -> None:
    summary = run.summary
    by_client = summary.epsilon_by_client or {}
    for ledger in ledgers:
        claimed = by_client.get(ledger.hospital)
        spent = ledger.epsilon_rdp if summary.accountant == "rdp" else ledger.epsilon_prv
        if claimed is None or spent is None:
            continue
        if spent > claimed + SAME_EPSILON:
            raise RunError(
                f"{run.path}: the ledger of {ledger.hospital} holds epsilon {at_most(spent)}, "
                f"summary.json claims {at_most(claimed)}",
                hint="summary.json was changed or is older than the ledger; finish the run",
            )


def _require_same_evaluation(run: Run) -> None:
    claimed = run.summary.evaluation_epsilon
    spent = run.evaluation.epsilon if run.evaluation else None
    if claimed is not None and (spent is None or spent > claimed + SAME_EPSILON):
        raise RunError(
            f"{run.path}: the ledgers hold epsilon {at_most(spent)} for held-out patients, "
            f"summary.json claims {at_most(claimed)}",
            hint="summary.json was changed or is older than the ledgers; finish the run",
        )


def _privacy(run: Run) -> Privacy:
    guarantee, settings = run.guarantee, run.settings.privacy
    if guarantee is None:
        return Privacy(
            dp=False,
            noise="none",
            sentence="No differential privacy: nothing bounds what the updates and the model tell "
            "about a patient.",
        )
    epsilon = guarantee.epsilon
    sentence = (
        f"Epsilon {at_most(epsilon)} at delta {guarantee.delta:g} per {guarantee.unit} of a "
        f"hospital, under {guarantee.adjacency} adjacency and {guarantee.sampling.capitalize()} "
        f"sampling, an upper bound by the {guarantee.accountant.upper()} accountant over all "
        f"{run.summary.rounds} rounds."
    )
    if epsilon is None:
        sentence = (
            f"No epsilon: the noise is {guarantee.noise}, and whoever has the seed removes it."
        )
    return Privacy(
        dp=True,
        sentence=sentence,
        epsilon=epsilon,
        delta=guarantee.delta,
        unit=guarantee.unit,
        adjacency=guarantee.adjacency,
        sampling=guarantee.sampling.capitalize(),
        accountant=guarantee.accountant,
        placement=settings.placement,
        clip_norm=settings.clip_norm,
        noise=guarantee.noise,
        # Beyond e^500 it is no number that anybody could use.
        odds_factor=math.exp(epsilon) if epsilon is not None and epsilon < 500 else None,
        evaluation=_evaluation(run),
        evaluation_epsilon=run.evaluation.epsilon if run.evaluation else None,
    )


def _scored(run: Run) -> Scored | None:
    noise, privacy = run.job.score_noise, run.settings.privacy
    if noise is None or run.evaluation is None or run.evaluation.epsilon is None:
        return None
    alone = epsilon_of([CountNoise(noise.sigma).event], privacy.delta, privacy.accountant)
    return Scored(f"epsilon {at_most(run.evaluation.epsilon)}", f"epsilon {at_most(alone)}")


def _evaluation(run: Run) -> str:
    spent = run.evaluation
    if run.settings.privacy.evaluation_epsilon is None:
        return "Held-out patients are not covered: their scores are exact totals."
    if spent is None:
        return "Held-out patients were not scored, and have spent nothing."
    return (
        "Held-out patients, who never train, are covered by a guarantee of their own, not part of "
        f"that figure: {spent}. The final model was scored once, with noise in each count."
    )


def _utility(run: Run) -> Utility:
    summary, held_out = run.summary, run.held_out
    if held_out:
        right = held_out.confusion.true_positive + held_out.confusion.true_negative
        if not math.isclose(right, (summary.accuracy or 0.0) * held_out.patients, abs_tol=1e-6):
            raise RunError(
                f"{run.path}: held_out.json counts {right} of {held_out.patients} patients "
                f"right, summary.json has accuracy {summary.accuracy}",
                hint="one of them was changed; resume the run to write both again",
            )
    return Utility(
        patients=held_out.patients if held_out else 0,
        training_patients=summary.patients,
        **{name: getattr(summary, name) for name in Scores.__struct_fields__},
        local_auc=summary.local_auc,
        noise=held_out.noise if held_out else None,
        confusion=held_out.confusion if held_out else None,
        roc=held_out.roc if held_out else None,
    )


def _environment(run: Run, audit: Audit | None) -> list[Setting]:
    about = run.about
    rows = [Setting(key="securefed", value=about.securefed)]
    for part in (about.environment, about.model, about.randomness):
        rows += _rows(msgspec.to_builtins(part))
    if audit:
        rows += _rows({"audit.effort": audit.effort, "audit.policy": audit.policy})
    return rows


def _rows(values: Mapping[str, Any]) -> list[Setting]:
    """Nested values as (dotted key, value in JSON) in their order, without paths.

    A path could name a person or a share of the hospital's, and the report travels.
    """
    rows = []
    for key, value in dotted(values).items():
        if isinstance(value, str):
            text = "given (a path, not repeated here)" if "/" in value or "\\" in value else value
        else:
            text = json.dumps(value)
        rows.append(Setting(key=key, value=text))
    return rows
