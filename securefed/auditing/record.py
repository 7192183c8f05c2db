"""From what attacks hand over to the lines of audit.json; infinite figures become null."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from attacks import findings, verdicts
from attacks.families import FAMILIES
from attacks.policy import Gate, Policy
from attacks.result import AttackResult
from attacks.statistics.intervals import Interval
from attacks.suite import Done
from securefed.exposure import Exposure
from securefed.record import audit
from securefed.record.audit import AuditFile, Exposed, Limits


def audit_lines(
    done: Sequence[Done], answer: verdicts.AuditVerdict, policy: Policy
) -> dict[str, Any]:
    """The fields of AuditFile that follow from the finished steps, their verdict and the policy."""
    results = [each.result for each in done]
    controls = [control for result in results for control in result.controls]
    return {
        "policy": _policy(policy),
        "verdict": answer.verdict,
        "judgements": tuple(map(_judgement, answer.judgements)),
        "findings": tuple(
            _finding(each, policy.confidence) for result in results for each in result.findings
        ),
        "controls": tuple(
            _control(gate, controls)
            for gate in policy.gates
            if any(control.attack == gate.attack for control in controls)
        ),
        "checks": tuple(_check(check) for result in results for check in result.checks),
        "details": _details(done),
        **_own_lines(results),
    }


def _policy(policy: Policy) -> audit.Policy:
    """What decides of it."""
    powers = {name: rule.minimum_power for name in FAMILIES if (rule := policy.power(name))}
    return audit.Policy(
        name=policy.name,
        set_by=policy.set_by,
        confidence=policy.confidence,
        sha256=hashlib.sha256(policy.model_dump_json().encode()).hexdigest(),
        primary=dict(policy.primary),
        minimum_power=powers,
        thresholds=tuple(
            audit.Threshold(
                attack=each.attack,
                metric=each.metric,
                scene=each.scene,
                at_most=each.at_most,
                required=each.required,
            )
            for each in policy.thresholds
        ),
        gates=tuple(map(_gate, policy.gates)),
    )


def _gate(gate: Gate) -> audit.Gate:
    return audit.Gate(
        attack=gate.attack,
        control=gate.control,
        metric=gate.metric,
        at_least=gate.at_least,
        at_most=gate.at_most,
        holds=gate.holds,
    )


def _own_lines(results: Sequence[AttackResult]) -> dict[str, Any]:
    """Lists of audit.json that are one family's own."""
    kinds = {field.name: field.type for field in msgspec.structs.fields(AuditFile)}
    lists: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for result in results:
        for name, lines in result.lines.items():
            lists[name] += lines
    return {name: msgspec.convert(lines, kinds[name]) for name, lines in lists.items()}


def exposed(exposure: Exposure) -> Exposed:
    """What an observer had to work with."""
    return Exposed(
        observer=exposure.observer,
        members=exposure.members,
        rounds=len(exposure.rounds),
        sees_updates=exposure.sees_updates,
        sees_means=exposure.sees_means,
        missing=exposure.missing,
    )


def _judgement(line: verdicts.Judgement) -> audit.Judgement:
    return audit.Judgement(
        attack=line.attack,
        observer=line.observer,
        method=line.method,
        metric=line.metric,
        scene=line.scene,
        verdict=line.verdict,
        reason=line.reason,
        value=line.value,
        interval=_limits(line.interval),
        threshold=line.threshold,
        adjusted_p=line.adjusted_p,
        decides=line.decides,
        remedy=line.remedy,
    )


def _finding(finding: findings.Finding, confidence: float) -> audit.Finding:
    estimate = finding.estimate
    return audit.Finding(
        attack=finding.attack,
        method=finding.method,
        metric=finding.metric,
        observer=finding.observer,
        scene=finding.scene,
        value=estimate.value if estimate else None,
        interval=_limits(estimate.interval(confidence)) if estimate else None,
        absent=finding.absent,
        applies=finding.applies,
    )


def _control(gate: Gate, controls: Sequence[findings.Control]) -> audit.Control:
    key = (gate.attack, gate.control, gate.metric)
    measured = [c for c in controls if (c.attack, c.control, c.metric) == key]
    complaint = verdicts.gate_complaint(gate, controls)
    return audit.Control(
        attack=gate.attack,
        control=gate.control,
        kind=gate.kind,
        metric=gate.metric,
        value=_finite(measured[0].value) if measured else None,
        interval=_limits(measured[0].interval) if measured else None,
        gate=str(_gate(gate)),
        met=complaint is None,
        reason=complaint or gate.reason,
    )


def _check(check: findings.Check) -> audit.Check:
    return audit.Check(
        name=check.name, refused=check.refused, expected=check.expected, detail=check.detail
    )


def _limits(interval: Interval | None) -> Limits | None:
    return (_finite(interval.lower), _finite(interval.upper)) if interval else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _details(done: Sequence[Done]) -> dict[str, dict[str, Any]]:
    """family -> observer, or "controls" -> details, as plain values."""
    details: dict[str, dict[str, Any]] = {}
    for each in done:
        if each.result.details:
            part = each.step.observer or "controls"
            details.setdefault(each.step.attack, {})[part] = _plain(each.result.details)
    return details


def _plain(value: Any) -> Any:
    """Mappings, lists, numbers and text; arrays and numbers of numpy become plain ones."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return _finite(value)
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    return value
