"""From a hospital's folder of a run to the facts of its officer's report.

Everything is read from that folder and from the site's ledger: nothing of it needs another party,
and nothing about other hospitals is in it but their names. A run that goes on can be reported on.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from securefed import __version__
from securefed.errors import RunError
from securefed.privacy import ledger_file, statement
from securefed.privacy.accounting import at_most
from securefed.record import egress
from securefed.record.audit import AuditFile
from securefed.record.egress import Departure
from securefed.record.inventory import InputFile
from securefed.record.memberships import Membership
from securefed.record.mismatch import Mismatch
from securefed.record.recording import INDEX, sightings
from securefed.record.run_file import unit_in_words
from securefed.reporting import provenance
from securefed.reporting.audited import audit_facts
from securefed.reporting.claim import scored
from securefed.reporting.egress import STAGES
from securefed.reporting.facts import Answer, Egress, Flow, Sight
from securefed.reporting.glossary import GLOSSARY, LIMITS
from securefed.reporting.outside_epsilon import outside_epsilon
from securefed.reporting.run_facts import CONTRADICTED, VERDICT_WORDS, simulated
from securefed.reporting.sights import sights
from securefed.reporting.site_facts import AgreementFacts, Job, Message, SiteReport, Spending
from securefed.reporting.withheld import Withheld
from securefed.run_directory import Run
from securefed.secure_sum import hiding_of
from securefed.wire import openings
from securefed.wire.plan import Step

ENDS = ("finished", "left")
TERMS = ("privacy", "secure_aggregation", "federation", "training")
BESIDE = (
    "Besides, when the server says hello, the hospital answers how far it is (opening, ready, or "
    "refused and by which rule), the number of the job, whether its patients are made up, and, "
    "signed, how many rows its ledger has, with a digest. These answers, and refusals of work that "
    "was asked before it had opened, hold nothing else. They are not in the list."
)
SITE_LIMITS = [
    "The list is what this hospital's program wrote down before each message left. What another "
    "program on the same machine sent is not in it.",
    "A digest lets whoever has a message say whether it is one of these. It does not tell what was "
    "in it.",
    "Epsilon is of the training patients of this hospital over all runs in its ledger. A person "
    "who is a patient of other hospitals too has spent there as well.",
    *LIMITS[1:4],
    "The folder holds the hospital's own updates in the clear where it keeps them. Hand on the "
    "page, not the folder.",
    *LIMITS[5:6],
    *LIMITS[7:],
]


def site_report(
    run: Run,
    inputs: list[InputFile],
    evidence: Sequence[Mismatch],
    *,
    each_hospital: bool = False,
) -> SiteReport:
    """The facts of a hospital's part of a run.

    Args:
        inputs: every file of its directory, hashed (integrity.inventory).
        evidence: where its files contradict each other.
        each_hospital: with the hospital's own results and number of patients.

    Raises:
        RunError: a damaged file that evidence does not name.
    """
    withheld, agreed, (name,) = Withheld(evidence), run.agreement, run.here
    if agreed is None:
        raise RunError(f"{run.path} is no hospital's part of a run among machines")
    audit = None if AuditFile.NAME in withheld else audit_facts(run)
    verdict: Answer = audit.verdict.value if audit else "NOT AUDITED"
    words = VERDICT_WORDS[verdict]
    if evidence:
        verdict, words = "FAIL", CONTRADICTED
    joined = run.memberships
    left = () if egress.NAME in withheld else egress.read(run.path)
    spending = None if ledger_file.NAME in withheld else _spending(run, name, joined)
    site = run.path.resolve().parent.parent.name
    settings, hidden = run.settings, hiding_of(run.settings)
    declared = settings.privacy.dp and settings.privacy.patients_epsilon is not None
    policies = _policies(joined)
    return SiteReport(
        title=site,
        place=f"{site}/runs/{run.path.resolve().name}",
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        securefed=__version__,
        hospital=name,
        run=run.about.run,
        state=_outcome(joined) if joined else "not begun",
        configuration=run.about.configuration,
        verdict=verdict,
        verdict_words=words,
        evidence=tuple(evidence),
        simulation=run.about.data.simulation,
        label_of=run.settings.task.example,
        banners=list(simulated(run)),
        agreement=AgreementFacts(
            name=agreed.name,
            digest=agreed.digest,
            hospitals=agreed.roster.names,
            key=agreed.roster.keys[name].hex(),
            terms=provenance.rows({key: run.about.settings[key] for key in TERMS}),
        ),
        jobs=list(_jobs(joined, policies, claimed=bool(spending and spending.now is not None))),
        policies=[provenance.rows(each) for each in policies],
        spending=spending,
        egress=_egress(run, name, left),
        first=left[0].at if left else None,
        last=left[-1].at if left else None,
        refusals=sum(bool(each.refusal) for each in left),
        messages=[_message(run, each) for each in left],
        beside=BESIDE,
        sights=_sights(run, declared=declared, known=not evidence),
        outside_epsilon=outside_epsilon(
            run.about.configuration,
            declared=declared,
            noised_scores=run.job.score_noise is not None,
            scorings=None,
            audited=audit is not None,
            baselines=False,
            each_hospital=each_hospital,
        ),
        hidden=hidden.sentence if hidden else None,
        results=run.hospital_results[0] if each_hospital and run.finished else None,
        audit=audit,
        settings=provenance.settings(run),
        environment=provenance.environment(run, audit),
        warnings=run.about.data.warnings,
        limits=SITE_LIMITS,
        glossary=GLOSSARY,
        inputs=inputs,
    )


def _outcome(lines: Sequence[Membership]) -> str:
    told = {"finished": "finished", "left": "left before its end"}
    return told.get(lines[-1].outcome, "killed, or still at work")


def _policies(joined: Sequence[Membership]) -> list[dict[str, Any]]:
    """Those that it joined under, each once, in order."""
    found: list[dict[str, Any]] = []
    for line in joined:
        if line.policy is not None and line.policy not in found:
            found.append(line.policy)
    return found


def _jobs(
    joined: Sequence[Membership], policies: list[dict[str, Any]], *, claimed: bool
) -> Iterator[Job]:
    for begin in joined:
        if begin.outcome != "joined":
            continue
        ends = [each for each in joined if each.number == begin.number and each.outcome in ENDS]
        end = ends[-1] if ends else None
        yield Job(
            number=begin.number,
            joined=begin.at,
            ended=end.at if end else None,
            outcome=_outcome([end or begin]),
            finished_before=begin.finished,
            spent_before=begin.spent if claimed else None,
            spent_after=end.spent if end and claimed else None,
            policy=policies.index(begin.policy) if begin.policy else 0,
        )


def _spending(run: Run, name: str, joined: Sequence[Membership]) -> Spending | None:
    """None without differential privacy."""
    promised, covered = run.guarantee, run.evaluation
    if promised is None:
        return None
    ledger = statement.read(run.ledger(name))
    spent, ends = ledger.largest(), [each for each in joined if each.outcome in ENDS]
    spent = replace(spent, unit=unit_in_words(spent.unit, run.about.data.simulation))
    claimed = spent.epsilon is not None
    return Spending(
        before=joined[0].spent if joined and claimed else None,
        after=ends[-1].spent if ends and claimed else None,
        now=spent.epsilon,
        limit=ledger.budgets[-1],
        delta=spent.delta,
        unit=spent.unit,
        accountant=spent.accountant,
        noise=spent.noise,
        sentence=str(spent),
        of_run=str(promised),
        evaluation=str(covered) if covered else "held-out patients have no epsilon",
    )


def _egress(run: Run, name: str, left: Sequence[Departure]) -> Egress:
    messages = Counter(each.stage for each in left)
    size = Counter[str]()
    for each in left:
        size[each.stage] += each.size
    recorded = (run.exposures / INDEX).is_file()
    seen = sightings(run.exposures) if recorded else ()
    came = sum(each.size for each in seen if each.direction == "down")
    return Egress(
        source=egress.NAME,
        complete=recorded,
        note="Each of them was held against the recorded messages."
        if recorded
        else "Messages were not kept (exposures.record: false): there is nothing to hold "
        "the list against, and what came is not counted.",
        flows=[
            Flow(hospital=name, stage=stage, messages=messages[stage], bytes=size[stage])
            for stage in STAGES
            if stage in messages
        ],
        total_up=size.total(),
        total_down=came,
    )


def _message(run: Run, left: Departure) -> Message:
    """A departure with what the run's plan says of it."""
    step = run.job.plan.step(left.step)
    if left.refusal:
        what = "a refusal: the kind of error, and nothing else"
    elif left.stage != "work" or step is None:
        what = STAGES.get(left.stage, left.stage)
    else:
        what = _work(run, step)
    return Message(round=step.round if step else None, what=what, left=left)


def _work(run: Run, step: Step) -> str:
    masked, dp = run.settings.secure_aggregation.enabled, run.settings.privacy.dp
    noised = dp if step.train or step.describes else run.job.score_noise is not None
    kinds = ["noised"] if noised else []
    kinds += ["under masks"] if masked else ["in the clear"]
    what = "the update" if step.train else "held-out counts"
    if step.describes:
        what = f"sum {step.describes} over training patients' scans"
    return f"{what}, {' and '.join(kinds)}"


def _sights(run: Run, *, declared: bool, known: bool) -> list[Sight]:
    settings = run.settings
    epsilon, promised = "no epsilon is claimed", run.guarantee if known else None
    if promised and promised.epsilon is not None:
        epsilon = f"epsilon {at_most(promised.epsilon)}"
    return sights(
        run.about.configuration,
        _smallest_sum(run),
        settings.privacy.placement if settings.privacy.dp else None,
        settings.privacy.colluding,
        epsilon,
        declared=declared,
        scored=scored(run) if known else None,
        described=settings.privacy.describes,
    )


def _smallest_sum(run: Run) -> int:
    """Hospitals in the smallest sum that this one helped to open, or that could be."""
    path = run.path / openings.NAME
    over = openings.read(path)[0].values() if path.is_file() else ()
    return min((len(each) for each in over), default=run.settings.federation.minimum_clients)
