"""What is left open says what would settle it."""

from typing import Any

import pytest

from attacks.families import FAMILIES
from attacks.findings import Finding, LowerBound
from attacks.membership.attack import MORE_PATIENTS
from attacks.policy import Policy
from attacks.remedies import EFFORT
from attacks.statistics.intervals import Proportion
from attacks.verdicts import Judgement, judge
from securefed.auditing.policy import read_policy
from securefed.verdict import Verdict

POLICY = read_policy()


def line_of(finding: Finding, policy: Policy = POLICY) -> Judgement:
    gates = [gate for gate in policy.gates if gate.attack != finding.attack]
    without_gates = policy.model_copy(update={"gates": gates})
    return judge([finding], [], without_gates, asked=(finding.attack,)).judgements[0]


def found(attack: str, metric: str, estimate: Any = None, **more: Any) -> Finding:
    return Finding(attack, "lira", metric, "server", "as configured", estimate, **more)


WEAK = LowerBound(1.0, 0.95, 8.0, 0.1, "half the noise", 3.0, "broken")


@pytest.mark.parametrize("attack", ["inversion", "head leakage"])
def test_an_interval_around_the_threshold_is_narrowed_by_effort(attack: str) -> None:
    line = line_of(found(attack, "identification", Proportion(3, 30)))
    assert line.verdict is Verdict.INCONCLUSIVE
    assert line.remedy == EFFORT
    assert "effort" in line.remedy


def test_of_membership_only_patients_narrow_it() -> None:
    finding = found("membership", "tpr at fpr 0.01", Proportion(3, 60), remedy=MORE_PATIENTS)
    line = line_of(finding)
    assert line.verdict is Verdict.INCONCLUSIVE
    assert "more patients" in line.remedy
    assert "more effort does not" in line.remedy


def test_a_line_that_is_not_open_has_no_remedy() -> None:
    for hits in (0, 400):
        line = line_of(found("inversion", "identification", Proportion(hits, 400)))
        assert line.verdict in (Verdict.PASS, Verdict.FAIL)
        assert line.remedy == ""


def test_what_the_attack_says_comes_first() -> None:
    line = line_of(found("epsilon", "epsilon", WEAK, remedy="more canaries"))
    assert (line.verdict, line.remedy) == (Verdict.INCONCLUSIVE, "more canaries")


def test_a_policy_that_says_too_little_is_what_has_to_change() -> None:
    content = POLICY.model_dump(by_alias=True)
    content.pop("epsilon")
    line = line_of(found("epsilon", "epsilon", WEAK), Policy.model_validate(content))
    assert "minimum_power for 'epsilon'" in line.remedy
    line = line_of(found("inversion", "shoe size", Proportion(1, 10)))
    assert "threshold" in line.remedy


def test_a_figure_that_is_missing_and_one_that_nobody_looked_for_say_what_to_do() -> None:
    assert "more patients" in line_of(found("membership", "auc", absent="too few")).remedy
    lines = judge([], [], POLICY, asked=tuple(FAMILIES)).judgements
    assert lines
    assert all(f'--attack "{line.attack}"' in line.remedy for line in lines)
