"""From the files of a run directory to the facts of its report.

The order of work: read, count and compose what can be computed again (egress, ledgers), say who
sees what, then draw the few conclusions that stand on the page: verdicts, risks, answers to
questions. What a run's files say of each other was checked before (`securefed.evidence`): of a run
that contradicts itself no epsilon is claimed, and what a file says that is wrong is left out.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
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
from securefed.privacy.statement import of_one_person
from securefed.record import metrics
from securefed.record.audit import AuditFile
from securefed.record.comparison import CompareFile
from securefed.record.inventory import InputFile
from securefed.record.mismatch import Mismatch
from securefed.record.recording import INDEX
from securefed.record.run_file import RunFile
from securefed.record.summary import HeldOut, HospitalSummary, Scores, Summary
from securefed.reporting.audited import audit_facts
from securefed.reporting.compared import comparison_facts
from securefed.reporting.egress import egress
from securefed.reporting.facts import (
    Answer,
    Audit,
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
from securefed.reporting.withheld import Withheld
from securefed.run_directory import ComparedRuns, Run
from securefed.secure_sum import hiding_of
from securefed.settings_file import dotted

CONTRADICTED = (
    "The files of this run contradict each other, or some are missing. Somebody changed them, or "
    "they are not all of this run; nothing in them is a result."
)
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
    subject: Run | ComparedRuns,
    inputs: list[InputFile],
    evidence: Mapping[Path, Sequence[Mismatch]],
    *,
    each_hospital: bool = False,
) -> Report:
    """The facts of a run or a comparison.

    Args:
        inputs: every file of its directory, hashed (integrity.inventory).
        evidence: a run's directory -> where its files contradict each other.
        each_hospital: with each hospital's own numbers, which stay in its folder otherwise.

    Raises:
        RunError: a damaged file that evidence does not name; run.json or summary.json.
    """
    compared = subject if isinstance(subject, ComparedRuns) else None
    runs = [
        run_facts(run, subject.path, evidence[run.path], each_hospital=each_hospital)
        for run in runs_of(subject)
    ]
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


def runs_of(subject: Run | ComparedRuns) -> tuple[Run, ...]:
    """The runs that a report is about."""
    return (subject,) if isinstance(subject, Run) else subject.runs


def run_facts(
    run: Run, directory: Path, evidence: Sequence[Mismatch], *, each_hospital: bool = False
) -> RunFacts:
    """Everything about one run.

    Args:
        directory: the reported one; the run's, or one above it.
        evidence: where the run's files contradict each other.
        each_hospital: as for `report_on`.

    Raises:
        RunError: a damaged file that evidence does not name; run.json or summary.json.
    """
    about, summary, withheld = run.about, run.summary, Withheld(evidence)
    audit = None if AuditFile.NAME in withheld else audit_facts(run)
    verdict: Answer = audit.verdict.value if audit else "NOT AUDITED"
    words = VERDICT_WORDS[verdict]
    if evidence:
        verdict, words = "FAIL", CONTRADICTED
    privacy = _privacy(run, evidence)
    hidden = hiding_of(run.settings)
    declared = privacy.dp and run.settings.privacy.patients_epsilon is not None
    curve = () if metrics.NAME in withheld else run.metrics.rounds
    # A peer subtracts in the round with the fewest hospitals, not in the largest one.
    smallest_sum = min((n for n in summary.survivors_by_round if n), default=summary.clients)
    return RunFacts(
        folder="" if run.path == directory else run.path.relative_to(directory).as_posix(),
        run=about.run,
        configuration=about.configuration,
        verdict=verdict,
        verdict_words=words,
        evidence=tuple(evidence),
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
            "no epsilon is claimed"
            if privacy.epsilon is None
            else f"epsilon {at_most(privacy.epsilon)}",
            declared=declared,
            scored=None if evidence else _scored(run),
        ),
        outside_epsilon=outside_epsilon(
            about.configuration,
            declared=declared,
            noised_scores=run.job.score_noise is not None,
            scorings=sum(line.loss is not None for line in curve),
            audited=audit is not None,
            baselines=run.settings.evaluation.baselines,
            each_hospital=each_hospital,
        ),
        hidden=hidden.sentence if hidden else None,
        utility=_utility(run, withheld),
        hospitals=tuple(
            HospitalSummary.read(run.hospital(name))
            for name in (run.hospitals if each_hospital else ())
            if f"hospitals/{name}/{HospitalSummary.NAME}" not in withheld
        ),
        curve=curve,
        ledgers=read_ledgers(run, withheld),
        egress=None if _unread(withheld, metrics.NAME, f"exposures/{INDEX}") else egress(run),
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


def _unread(withheld: Withheld, *places: str) -> bool:
    return any(place in withheld for place in places)


def _privacy(run: Run, evidence: Sequence[Mismatch]) -> Privacy:
    settings = run.settings.privacy
    if evidence:
        first, more = evidence[0], len(evidence) - 1
        others = f", and {more} more" if more else ""
        return Privacy(
            dp=settings.dp,
            noise=settings.noise,
            sentence="No epsilon is claimed: the files of this run contradict each other or are "
            f"missing ({first}{others}).",
        )
    guarantee = run.guarantee
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
        together=_together(run) if epsilon is not None else "",
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


def _together(run: Run) -> str:
    ledgers = list(run.ledgers.values())
    if len(ledgers) < 2:
        return ""
    two, everywhere = of_one_person(ledgers, 2), of_one_person(ledgers, len(ledgers))
    if two is None or everywhere is None:
        return (
            "A person who is a patient of two hospitals is a group of two under shared noise, for "
            "which this epsilon does not hold."
        )
    return (
        f"A person who is a patient of two of the hospitals has epsilon {at_most(two.epsilon)}, of "
        f"all {len(ledgers)} {at_most(everywhere.epsilon)}: their histories composed as one, at "
        "the same delta."
    )


def _utility(run: Run, withheld: Withheld) -> Utility:
    summary = run.summary
    held_out = None if HeldOut.NAME in withheld else run.held_out
    known = Summary.NAME not in withheld
    return Utility(
        patients=held_out.patients if held_out else 0,
        training_patients=summary.patients if known else None,
        **{name: getattr(summary, name) if known else None for name in Scores.__struct_fields__},
        local_auc=summary.local_auc if known else None,
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
