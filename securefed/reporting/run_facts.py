"""From the files of one run to the facts about it.

What a run's files say of each other was checked before (`securefed.evidence`): of a run that
contradicts itself no epsilon is claimed, and what a file says that is wrong is left out.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from securefed.data.manifest import SIMULATIONS
from securefed.privacy.accounting import at_most
from securefed.record import metrics
from securefed.record.audit import AuditFile
from securefed.record.mismatch import Mismatch
from securefed.record.recording import INDEX
from securefed.record.summary import HospitalSummary
from securefed.reporting import provenance
from securefed.reporting.audited import audit_facts
from securefed.reporting.claim import claim, scored
from securefed.reporting.egress import egress
from securefed.reporting.facts import Answer, RunFacts
from securefed.reporting.ledgers import read_ledgers
from securefed.reporting.outside_epsilon import outside_epsilon
from securefed.reporting.sights import sights
from securefed.reporting.utility import unsure_hospitals, utility
from securefed.reporting.withheld import Withheld
from securefed.run_directory import Run
from securefed.secure_sum import hiding_of

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
    "NOT AUDITED": "Nobody has attacked this run, so nobody knows what attackers learn from it.",
}


def run_facts(
    run: Run,
    directory: Path,
    evidence: Sequence[Mismatch],
    *,
    title: str = "",
    each_hospital: bool = False,
) -> RunFacts:
    """Everything about one run.

    Args:
        directory: the reported one; the run's, or one above it.
        evidence: where the run's files contradict each other.
        title: what a page calls it; by its configuration where there is none.
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
    privacy = claim(run, evidence)
    folder = run.path.relative_to(directory)
    hospitals = tuple(
        HospitalSummary.read(run.hospital(name))
        for name in (run.here if each_hospital else ())
        if run.place(name, HospitalSummary.NAME) not in withheld
    )
    hidden = hiding_of(run.settings)
    declared = privacy.dp and run.settings.privacy.patients_epsilon is not None
    curve = () if metrics.NAME in withheld else run.metrics.rounds
    # A peer subtracts in the round with the fewest hospitals, not in the largest one.
    smallest_sum = min((n for n in summary.survivors_by_round if n), default=summary.clients)
    return RunFacts(
        folder="" if run.path == directory else folder.as_posix(),
        title=title or about.configuration,
        place=(Path(directory.resolve().name) / folder).as_posix(),
        run=about.run,
        configuration=about.configuration,
        verdict=verdict,
        verdict_words=words,
        evidence=tuple(evidence),
        simulation=about.data.simulation,
        label_of=run.settings.task.example,
        auditable=run.settings.auditable,
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
            scored=None if evidence else scored(run),
            described=run.settings.privacy.describes,
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
        utility=utility(run, withheld, declared_with_noise=declared),
        hospitals=hospitals,
        unsure_hospitals=unsure_hospitals(hospitals),
        curve=curve,
        ledgers=read_ledgers(run, withheld),
        egress=None
        if metrics.NAME in withheld or f"exposures/{INDEX}" in withheld
        else egress(run),
        audit=audit,
        wall_seconds=summary.wall_seconds,
        settings=provenance.settings(run),
        environment=provenance.environment(run, audit),
        warnings=about.data.warnings,
    )


def _banners(run: Run) -> Iterator[str]:
    if run.settings.canaries.count:
        yield (
            f"Made for auditing: {run.settings.canaries.count} made-up records may be among the "
            "patients. Do not use this model for anything else."
        )
    yield from simulated(run)


def simulated(run: Run) -> Iterator[str]:
    """What its patients are, where they are made up; nothing for people with scans of their own."""
    for kind in (run.about.data.simulation or "").split("+"):
        if kind:
            what = SIMULATIONS.get(kind, kind)
            yield f"A simulation, not patients: {what}. Nothing here holds per patient."
