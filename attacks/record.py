"""audit.json: the audit as plain values, for scripts, the comparison and the report page.

Flat lists with the observer in each line, so that a table is one list. Infinite or missing
figures are null, never NaN: JSON has neither.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from attacks.epsilon.canaries import EpsilonAudit
from attacks.policy import Gate, Policy
from attacks.result import AttackResult
from attacks.statistics.intervals import Interval
from attacks.verdicts import AuditVerdict, Control, Finding, Judgement, gate_complaint
from securefed.exposure import Exposure

SCHEMA = 1


def exposure_record(exposure: Exposure) -> dict[str, Any]:
    """What an observer had to work with."""
    return {
        "observer": exposure.observer,
        "members": list(exposure.members),
        "rounds": len(exposure.rounds),
        "sees_updates": exposure.sees_updates,
        "sees_means": exposure.sees_means,
        "missing": exposure.missing,
    }


def verdict_record(
    answer: AuditVerdict, results: Sequence[AttackResult], policy: Policy
) -> dict[str, Any]:
    """Verdict, judgements, findings, controls and epsilon audits of all results."""
    controls = [control for result in results for control in result.controls]
    findings = [finding for result in results for finding in result.findings]
    return {
        "verdict": answer.verdict.value,
        "judgements": [_judgement(line) for line in answer.judgements],
        "findings": [_finding(finding, policy.confidence) for finding in findings],
        "controls": [_gate(gate, controls) for gate in policy.gates if _tried(gate, controls)],
    }


def epsilon_record(observer: str, audit: EpsilonAudit) -> dict[str, Any]:
    """One epsilon audit; infinite figures are null."""
    plan = audit.plan
    return {
        "observer": observer,
        "canaries": plan.canaries,
        "guesses": plan.guesses,
        "method": plan.method,
        "significance": plan.significance,
        "delta": plan.delta,
        "correct": audit.correct,
        "certified": audit.certified,
        "one_run_bound": audit.one_run_bound,
        "f_dp_bound": audit.f_dp_bound,
        "point_estimate": finite(audit.point_estimate),
        "visible_epsilon": finite(audit.visible_epsilon),
        "largest_bound": audit.largest_bound,
        "claimed_epsilon": audit.claimed_epsilon,
        "power_halved_noise": audit.power_halved_noise,
    }


def finite(value: float | None) -> float | None:
    """`value`, or None where JSON has no number for it."""
    return value if value is not None and math.isfinite(value) else None


def _judgement(line: Judgement) -> dict[str, Any]:
    return {
        "observer": line.observer,
        "attack": line.attack,
        "name": line.name,
        "verdict": line.verdict.value if line.verdict else None,
        "reason": line.reason,
        "value": line.value,
        "interval": _limits(line.interval),
        "threshold": line.threshold,
        "adjusted_p": line.adjusted_p,
        "decides": line.decides,
    }


def _finding(finding: Finding, confidence: float) -> dict[str, Any]:
    estimate = finding.estimate
    return {
        "attack": finding.attack,
        "method": finding.method,
        "metric": finding.metric,
        "observer": finding.observer,
        "scene": finding.scene,
        "value": estimate.value if estimate else None,
        "interval": _limits(estimate.interval(confidence)) if estimate else None,
        "absent": finding.absent,
        "applies": finding.applies,
    }


def _tried(gate: Gate, controls: Sequence[Control]) -> bool:
    return any(control.attack == gate.attack for control in controls)


def _gate(gate: Gate, controls: Sequence[Control]) -> dict[str, Any]:
    key = (gate.attack, gate.control, gate.metric)
    measured = [c for c in controls if (c.attack, c.control, c.metric) == key]
    complaint = gate_complaint(gate, controls)
    return {
        "attack": gate.attack,
        "control": gate.control,
        "kind": gate.kind,
        "metric": gate.metric,
        "value": finite(measured[0].value) if measured else None,
        "interval": _limits(measured[0].interval) if measured else None,
        "gate": gate_text(gate),
        "met": complaint is None,
        "reason": complaint or gate.reason,
    }


def gate_text(gate: Gate) -> str:
    """The condition of a gate in words."""
    if gate.at_least is not None:
        return f"at least {gate.at_least:g}"
    if gate.at_most is not None:
        return f"at most {gate.at_most:g}"
    return f"interval holds {gate.holds:g}"


def _limits(interval: Interval | None) -> list[float | None] | None:
    return [finite(interval.lower), finite(interval.upper)] if interval else None


def details_record(details: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """family -> observer -> details; arrays and numbers of numpy become plain ones."""
    return {family: _plain(by_observer) for family, by_observer in details.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return finite(value)
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    return value
