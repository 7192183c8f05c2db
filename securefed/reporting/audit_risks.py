"""What an audit, or the want of one, puts at risk."""

from collections.abc import Iterator

from securefed.reporting.attack_facts import Audit
from securefed.reporting.facts import Risk, RunFacts
from securefed.reporting.risk import risk
from securefed.reporting.words import figure, limits
from securefed.verdict import Verdict
from securefed.wording import command_line, counted, first_of

BY_EFFORT = "a higher effort"  # in a remedy that an audit with more effort is


def audited(run: RunFacts) -> Iterator[Risk]:
    """What was found, what is broken, what is open."""
    audit = run.audit
    if audit is None and run.verdict == "NOT AUDITED":
        yield risk(
            run,
            65,
            "Nobody has attacked this run",
            "What attackers do learn was not measured; only the bounds below speak.",
            "Audit it, then make the report again."
            if run.auditable
            else "Audits know models of the last round and whole updates, and refuse this run: "
            "audit one without federation.patience and federation.sent_share, for what the "
            "mechanism holds.",
            "audit",
            [command_line("audit", run.place)] if run.auditable else (),
        )
    if audit is None:
        return
    more = _more_effort(run, audit)
    failed = [line for line in audit.judgements if line.verdict is Verdict.FAIL]
    for line in failed[:3]:
        yield risk(
            run,
            100 if line.of_claim else 98,
            f"An attack succeeds: {line.attack}, by the {line.observer}"
            if line.observer
            else f"An attack succeeds: {line.attack}",
            f"{line.title}: {figure(line)} ({limits(line)}); {line.reason}.",
            "Do not release this model: what it claims is not what it did. Check the "
            "implementation of sampling, clipping and noise."
            if line.of_claim
            else "Do not release this model; lower epsilon, or turn on what is off: differential "
            "privacy bounds it, secure aggregation hides single updates from the server.",
            "audit",
        )
    for attempt in audit.attempts:
        if any(check.expected and not check.refused for check in attempt.checks):
            yield risk(
                run,
                97,
                f"A hospital accepts what it must refuse: {attempt.attempt}",
                f"{attempt.says[:1].upper()}{attempt.says[1:]}.",
                "Update every hospital's software; do not train until the check is refused.",
                "audit",
            )
    broken = [control for control in audit.controls if not control.met]
    if broken:
        yield risk(
            run,
            80,
            "A control is off its gate: parts of the audit do not count",
            f"{broken[0].attack}: {broken[0].reason or broken[0].control}.",
            ("Audit again with more effort; if" if more else "No larger effort is left. If")
            + " the control stays off, the attack is broken and says nothing either way.",
            "controls",
            more,
        )
    if audit.verdict is Verdict.INCONCLUSIVE:
        yield _undecided(run, audit, more)


def _more_effort(run: RunFacts, audit: Audit) -> list[str]:
    """The command for an audit with the next larger effort, if there is one."""
    if audit.more_effort is None:
        return []
    return [command_line("audit", run.place, *filter(None, (audit.more_effort,)))]


def _undecided(run: RunFacts, audit: Audit, more: list[str]) -> Risk:
    """What is open, and what would settle it, by the audit's own word."""
    open_ones = [
        line for line in audit.judgements if line.decides and line.verdict is Verdict.INCONCLUSIVE
    ]
    unsure = [line for line in open_ones if line.value is not None]
    remedies = list(dict.fromkeys(line.remedy for line in open_ones if line.remedy))
    why = []
    if unsure:
        told = f"{counted(len(unsure), 'figure')} could lie on either side of what is allowed"
        why.append(f"{told}, or the test was too weak.")
    if lacking := len(open_ones) - len(unsure):
        why.append(f"{counted(lacking, 'figure')} could not be measured.")
    if audit.effort == "quick":
        change = "Audit with the default effort: a quick one is a first look."
        if remedies:
            change += f" What settles what is open then: {first_of(remedies)}."
    elif remedies:
        change = f"What would settle it: {first_of(remedies)}."
    else:
        change = "Audit with more effort." if more else "No larger effort is left."
    helps = audit.effort == "quick" or not remedies or any(BY_EFFORT in one for one in remedies)
    return risk(
        run,
        45,
        "The audit could not decide",
        " ".join([*(why or ["Not all attacks were run."]), "That is not a pass."]),
        change,
        "audit",
        more if helps else (),
    )
