"""Verdicts: the four answers, each where it belongs, and no way round a control."""

import dataclasses
import itertools
import math
from typing import Any, cast

import numpy as np
import pytest

from attacks.epsilon.attack import finding
from attacks.epsilon.canaries import CanaryPlan, audit_epsilon
from attacks.epsilon.composed_power import CanaryView
from attacks.epsilon.trade_off import SubsampledGaussian
from attacks.errors import InvalidScores
from attacks.findings import Check, Control, Finding, Surprise
from attacks.policy import Policy
from attacks.statistics.intervals import Interval, Proportion, Resampled
from attacks.verdicts import judge
from securefed.auditing.policy import read_policy
from securefed.exposure import Observer
from securefed.verdict import Verdict

POLICY = read_policy()
AUC = ("membership", "auc", "as configured")  # at most 0.60


def controls_in_order():
    """Every gate of the policy met, each exactly at its edge."""
    return [
        Control(
            gate.attack,
            gate.control,
            gate.metric,
            value=next(x for x in (gate.at_least, gate.at_most, gate.holds) if x is not None),
            interval=None if gate.holds is None else Interval(0.45, 0.55, 0.95),
        )
        for gate in POLICY.gates
    ]


def auc_between(lower, upper, method="lira", **more):
    """A membership finding whose 95% interval is [lower, upper]."""
    replicates = np.repeat([lower, (lower + upper) / 2, upper], [100, 1800, 100])
    estimate = Resampled((lower + upper) / 2, replicates)
    return Finding("membership", method, "auc", "server", "as configured", estimate, **more)


def complete(findings):
    """The findings, and one under its threshold for everything else the policy asks."""
    answered = {(f.attack, f.metric, f.scene) for f in findings}
    rest = [
        Finding(t.attack, "lira", t.metric, "server", t.scene, Proportion(0, 4000))
        for t in POLICY.thresholds
        if (t.attack, t.metric, t.scene) not in answered
    ]
    return [*findings, *rest]


def verdict_of(*findings, controls=None, policy=POLICY, epsilon_audit=None):
    made = controls_in_order() if controls is None else controls
    claims = [finding("server", epsilon_audit)] if epsilon_audit else []
    return judge([*complete(findings), *claims], made, policy)


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        (0.48, 0.59, Verdict.PASS),
        (0.48, 0.60, Verdict.INCONCLUSIVE),  # under means under
        (0.55, 0.65, Verdict.INCONCLUSIVE),
        (0.60, 0.70, Verdict.INCONCLUSIVE),  # over means over
        (0.61, 0.70, Verdict.FAIL),
        (0.30, 0.40, Verdict.PASS),
    ],
)
def test_the_interval_against_the_threshold_decides(lower, upper, expected):
    answer = verdict_of(auc_between(lower, upper))
    assert answer.judgements[0].verdict is expected
    assert answer.verdict is expected


def test_a_count_is_judged_by_its_exact_interval():
    # 0.05 at 1% FPR. 0 of 72 has an upper limit of .0499, 0 of 71 of .0506.
    def found(successes, trials):
        return verdict_of(
            Finding(
                "membership",
                "lira",
                "tpr at fpr 0.01",
                "server",
                "as configured",
                Proportion(successes, trials),
            )
        ).verdict

    assert found(0, 72) is Verdict.PASS
    assert found(0, 71) is Verdict.INCONCLUSIVE
    assert found(30, 100) is Verdict.FAIL


# --- controls -----------------------------------------------------------------------------------


def off_gate(control, gate):
    if gate.at_least is not None:
        return dataclasses.replace(control, value=gate.at_least - 1e-6)
    if gate.at_most is not None:
        return dataclasses.replace(control, value=gate.at_most + 1e-6)
    return dataclasses.replace(control, interval=Interval(0.51, 0.6, 0.95))


@pytest.mark.parametrize("index", range(len(POLICY.gates)))
@pytest.mark.parametrize("how", ["off its gate", "not run", "not a number"])
def test_any_control_that_does_not_stand_makes_its_family_invalid(index, how):
    gate, controls = POLICY.gates[index], controls_in_order()
    if how == "off its gate":
        controls[index] = off_gate(controls[index], gate)
    elif how == "not run":
        del controls[index]
    else:
        controls[index] = dataclasses.replace(controls[index], value=math.nan, interval=None)
    answer = verdict_of(auc_between(0.4, 0.5), controls=controls, epsilon_audit=epsilon_audit(0.5))
    assert list(answer.broken_controls) == [gate.attack]
    assert gate.control in answer.broken_controls[gate.attack][0]
    for judgement in answer.judgements:
        broken = judgement.attack == gate.attack
        assert (judgement.verdict is Verdict.INVALID) == broken
    assert answer.verdict is Verdict.INVALID


def test_a_leak_found_by_an_attack_whose_control_failed_is_invalid_not_fail():
    controls = [c for c in controls_in_order() if c.control != "permuted membership"]
    assert verdict_of(auc_between(0.9, 0.99), controls=controls).verdict is Verdict.INVALID


def test_a_leak_shown_by_a_sound_attack_stands_whatever_became_of_another():
    controls = [c for c in controls_in_order() if c.attack != "inversion"]
    answer = verdict_of(auc_between(0.9, 0.99), controls=controls)
    assert answer.verdict is Verdict.FAIL
    assert "inversion" in answer.broken_controls


def test_the_second_run_of_a_control_counts_too():
    bad = [
        off_gate(c, g)
        for c, g in zip(controls_in_order(), POLICY.gates, strict=True)
        if c.control == "permuted membership"
    ]
    controls = controls_in_order() + bad
    assert verdict_of(auc_between(0.4, 0.5), controls=controls).verdict is Verdict.INVALID


def test_controls_of_an_attack_that_does_not_apply_are_not_demanded():
    absent = [
        Finding(t.attack, "none", t.metric, "outsider", t.scene, None, "no update was seen", False)
        for t in POLICY.thresholds
        if t.attack != "membership"
    ]
    controls = [c for c in controls_in_order() if c.attack == "membership"]
    answer = verdict_of(auc_between(0.4, 0.5), *absent, controls=controls)
    assert answer.broken_controls == {}
    assert answer.verdict is Verdict.PASS
    skipped = [j for j in answer.judgements if j.attack != "membership"]
    assert {(j.verdict, j.reason) for j in skipped} == {
        (None, "does not apply: no update was seen")
    }


def test_an_audit_in_which_nothing_applies_is_inconclusive():
    absent = [
        Finding(t.attack, "none", t.metric, "outsider", t.scene, None, "nothing was seen", False)
        for t in POLICY.thresholds
    ]
    assert judge(absent, [], POLICY).verdict is Verdict.INCONCLUSIVE


def test_a_surprise_fails_at_the_policys_own_level_and_holm_does_not_soften_it() -> None:
    """Each direct test has the error that the policy names, however many there are."""
    policy = read_policy()
    honest = [Finding("direct tests", f"test {i}", "surprise", "server", "as configured",
                      Surprise(0.1, "hospital-1")) for i in range(400)]  # fmt: skip
    over = dataclasses.replace(honest[0], method="worst", estimate=Surprise(4.2, "round 80"))
    controls = [
        Control(gate.attack, gate.control, gate.metric, 5.0 if gate.kind == "positive" else 0.0)
        for gate in policy.gates
        if gate.attack == "direct tests"
    ]
    *passed, failed = judge([*honest, over], controls, policy, asked=()).judgements
    assert {line.verdict for line in passed} == {Verdict.PASS}
    assert failed.verdict is Verdict.FAIL
    assert "round 80: p 6.3e-05" in failed.reason


def test_a_part_of_an_audit_is_judged_on_what_was_asked() -> None:
    policy = read_policy()
    whole = judge([], [], policy)
    part = judge([], [], policy, asked=("inversion",))
    assert {line.attack for line in part.judgements} == {"inversion"}
    assert len(part.judgements) < len(whole.judgements)
    assert part.verdict is Verdict.INCONCLUSIVE  # asked for, and nobody got to it


# --- what was not attacked ----------------------------------------------------------------------


def test_nothing_attacked_is_inconclusive_never_pass():
    answer = judge([], [], POLICY)
    assert answer.verdict is Verdict.INCONCLUSIVE
    assert {j.reason for j in answer.judgements} == {"not attacked"}
    assert len(answer.judgements) == sum(t.at_most is not None for t in POLICY.thresholds)
    empty = POLICY.model_copy(update={"thresholds": []})
    assert judge([], [], empty).verdict is Verdict.INCONCLUSIVE


def test_one_unanswered_threshold_keeps_an_audit_from_passing():
    findings = [f for f in complete([auc_between(0.4, 0.5)]) if f.metric != "tpr at fpr 0.01"]
    answer = judge(findings, controls_in_order(), POLICY)
    assert answer.verdict is Verdict.INCONCLUSIVE
    last = answer.judgements[-1]
    assert (last.attack, last.metric, last.scene) == (
        "membership",
        "tpr at fpr 0.01",
        "as configured",
    )
    assert last.observer is None


def test_a_withheld_figure_is_inconclusive_and_says_why():
    withheld = Finding(
        "membership",
        "lira",
        "tpr at fpr 0.01",
        "server",
        "as configured",
        absent="99 distinct non-members",
    )
    answer = verdict_of(withheld)
    assert answer.judgements[0].verdict is Verdict.INCONCLUSIVE
    assert answer.judgements[0].reason == "99 distinct non-members"


def test_a_withheld_figure_on_which_the_policy_does_not_insist_leaves_no_gap():
    withheld = Finding(
        "membership",
        "lira",
        "tpr at fpr 0.001",
        "server",
        "as configured",
        absent="999 distinct non-members",
    )
    answer = verdict_of(withheld)
    assert answer.judgements[0].verdict is None
    assert "999 distinct non-members" in answer.judgements[0].reason
    assert answer.verdict is Verdict.PASS


def test_a_figure_without_a_threshold_is_inconclusive():
    odd = Finding("membership", "lira", "accuracy", "peer", "as configured", Proportion(1, 100))
    answer = verdict_of(odd)
    assert answer.judgements[0].verdict is Verdict.INCONCLUSIVE
    assert "sets no threshold" in answer.judgements[0].reason


def test_a_worst_case_is_reported_and_not_judged():
    worst = Finding(
        "inversion", "cosine", "identification", "server", "worst case", Proportion(50, 50)
    )
    answer = verdict_of(worst)
    assert answer.judgements[0].verdict is None
    assert answer.judgements[0].value == 1.0
    assert answer.verdict is Verdict.PASS


# --- several attacks ----------------------------------------------------------------------------


def rival(successes, method):
    """Of 1,000 members at 1% FPR; .05 is allowed. 65 is over it with one-sided p .0214."""
    return Finding(
        "membership",
        method,
        "tpr at fpr 0.01",
        "server",
        "as configured",
        Proportion(successes, 1000),
    )


def test_the_primary_attack_counts_as_it_stands():
    assert rival(65, "lira").estimate.interval(0.95).lower > 0.05
    answer = verdict_of(rival(65, "lira"), rival(40, "rmia"), rival(40, "loss"))
    assert answer.judgements[0].verdict is Verdict.FAIL
    assert answer.judgements[0].adjusted_p is None


def test_another_attack_must_survive_holm():
    answer = verdict_of(rival(30, "lira"), rival(65, "rmia"), rival(40, "loss"))
    second = answer.judgements[1]
    assert second.interval.lower > 0.05
    assert second.verdict is Verdict.INCONCLUSIVE
    assert "Holm" in second.reason
    assert second.adjusted_p == pytest.approx(2 * rival(65, "x").estimate.p_value_at_most(0.05))
    assert (
        verdict_of(rival(30, "lira"), rival(90, "rmia"), rival(40, "loss")).verdict is Verdict.FAIL
    )


def test_between_pass_and_fail_the_primary_attack_decides():
    between = rival(45, "rmia")
    assert between.estimate.interval(0.95).holds(0.05)
    line = verdict_of(rival(30, "lira"), between).judgements[1]
    assert line.verdict is None
    assert "the primary attack, lira, decides" in line.reason
    assert verdict_of(rival(45, "lira"), rival(30, "rmia")).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("observer", ["server", "peer"])
def test_without_an_answer_of_the_primary_another_attack_decides_itself(observer):
    missing = Finding(
        "membership", "lira", "tpr at fpr 0.01", "server", "as configured", absent="no shadows"
    )
    elsewhere = dataclasses.replace(rival(30, "lira"), observer="peer")
    first = missing if observer == "server" else elsewhere
    assert verdict_of(first, rival(45, "rmia")).judgements[1].verdict is Verdict.INCONCLUSIVE


def test_a_single_other_attack_pays_nothing():
    answer = verdict_of(rival(65, "rmia"))
    assert answer.judgements[0].verdict is Verdict.FAIL


def test_figures_that_are_not_judged_do_not_cost_the_others():
    odd = Finding("membership", "rmia", "accuracy", "peer", "as configured", Proportion(1, 100))
    absent = Finding(
        "membership", "cosine", "auc", "server", "as configured", absent="no update was seen"
    )
    answer = verdict_of(rival(65, "rmia"), odd, absent)
    assert answer.judgements[0].verdict is Verdict.FAIL


# --- the epsilon claim --------------------------------------------------------------------------


RELEASE = SubsampledGaussian(1.0, 1)


def epsilon_audit(bound_over_claim, canaries=1000):
    """Canaries of one Gaussian release, judged against a claim that the bound is a multiple of."""
    rng = np.random.default_rng(8)
    coins = rng.integers(0, 2, canaries).astype(bool)
    scores = rng.normal(size=canaries) + 1.5 * coins

    def audited(claim):
        view = CanaryView(RELEASE, RELEASE.noise_multiplier(claim, 1e-5), rounds=1)
        plan = CanaryPlan(canaries, canaries // 10, canaries // 10, 1e-5, view=view)
        return audit_epsilon(plan, scores, coins, claimed_epsilon=claim)

    return audited(audited(1.0).certified / bound_over_claim)


def claims(**audits):
    return [finding(cast(Observer, observer), audit) for observer, audit in audits.items()]


def epsilon_line(audit):
    return verdict_of(auc_between(0.4, 0.5), epsilon_audit=audit).judgements[-1]


def test_a_certified_epsilon_over_the_claim_is_a_broken_implementation():
    line = epsilon_line(epsilon_audit(1.01))
    assert line.verdict is Verdict.FAIL
    assert "broken" in line.reason
    assert line.value > line.threshold


def test_a_claim_that_survives_a_test_with_power_passes():
    line = epsilon_line(epsilon_audit(0.9))
    assert line.verdict is Verdict.PASS
    assert "the least epsilon this audit could have seen is" in line.reason
    assert line.interval.upper == math.inf


def test_who_could_not_have_noticed_leaves_the_claim_to_whoever_could():
    able, weak = epsilon_audit(0.9), epsilon_audit(0.5, 120)
    findings = complete([auc_between(0.4, 0.5)])
    answer = judge(findings + claims(server=weak, coalition=able), controls_in_order(), POLICY)
    server, coalition = answer.judgements[-2:]
    assert (server.verdict, coalition.verdict) == (None, Verdict.PASS)
    assert "The coalition tests the same claim with more power" in server.reason
    alone = judge(findings + claims(server=weak, peer=weak), controls_in_order(), POLICY)
    assert [line.verdict for line in alone.judgements[-2:]] == [Verdict.INCONCLUSIVE, None]


def test_whoever_contradicts_the_claim_fails_it_with_or_without_power():
    able = epsilon_audit(0.9)
    wrong = dataclasses.replace(epsilon_audit(1.01), power_halved_noise=0.0)
    findings = complete([auc_between(0.4, 0.5)])
    answer = judge(findings + claims(server=wrong, coalition=able), controls_in_order(), POLICY)
    assert answer.verdict is Verdict.FAIL


def test_a_bound_equal_to_the_claim_does_not_contradict_it():
    audit = epsilon_audit(0.9)
    equal = dataclasses.replace(audit, claimed_epsilon=audit.certified)
    assert epsilon_line(equal).verdict is Verdict.PASS


def test_a_claim_that_survives_a_test_without_power_is_inconclusive():
    audit = epsilon_audit(0.5, 120)
    assert audit.power_halved_noise < 0.8
    line = epsilon_line(audit)
    assert line.verdict is Verdict.INCONCLUSIVE
    assert "half the noise" in line.reason


def test_a_policy_that_sets_no_power_leaves_a_claim_open():
    content = POLICY.model_dump(by_alias=True)
    content.pop("epsilon")
    silent = Policy.model_validate(content)
    line = verdict_of(auc_between(0.4, 0.5), policy=silent, epsilon_audit=epsilon_audit(0.9))
    assert line.judgements[-1].verdict is Verdict.INCONCLUSIVE
    assert "how much power" in line.judgements[-1].reason
    broken = verdict_of(auc_between(0.4, 0.5), policy=silent, epsilon_audit=epsilon_audit(1.01))
    assert broken.verdict is Verdict.FAIL


def test_a_threshold_on_a_lower_bound_can_fail_a_run_and_never_pass_it():
    content = POLICY.model_dump(by_alias=True)
    content["primary"]["epsilon"] = "canaries"
    audit = epsilon_audit(0.9)
    for most, verdict in ((audit.certified / 2, Verdict.FAIL), (1e9, Verdict.INCONCLUSIVE)):
        limit: dict[str, Any] = {"attack": "epsilon", "metric": "epsilon", "scene": "as configured"}
        limit |= {"at_most": most, "reason": "a test", "required": True}
        policy = Policy.model_validate(content | {"thresholds": [*content["thresholds"], limit]})
        line = judge([finding("server", audit)], controls_in_order(), policy).judgements[0]
        assert (line.verdict, line.threshold) == (verdict, most)


def test_a_run_that_claims_nothing_is_not_judged_on_it():
    audit = dataclasses.replace(epsilon_audit(0.9), claimed_epsilon=None, power_halved_noise=None)
    line = epsilon_line(audit)
    assert line.verdict is None
    assert "claims no epsilon" in line.reason


# --- what a malicious server tried --------------------------------------------------------------


@pytest.mark.parametrize(
    ("refused", "expected", "verdict"),
    [
        (True, True, Verdict.PASS),
        (False, True, Verdict.FAIL),
        (False, False, None),
        (True, False, None),
    ],
)
def test_a_client_that_takes_what_it_must_refuse_fails_the_audit(refused, expected, verdict):
    check = Check(
        "malicious server", "non-finite parameters", "server", refused, expected, "RunError"
    )
    answer = judge(complete([auc_between(0.4, 0.5)]), controls_in_order(), POLICY, [check])
    assert answer.judgements[-1].verdict is verdict
    assert answer.judgements[-1].observer == "server"
    assert answer.verdict is (Verdict.FAIL if verdict is Verdict.FAIL else Verdict.PASS)


# --- the whole ----------------------------------------------------------------------------------


def test_only_fail_stops_a_pipeline():
    assert {v: v.exit_code for v in Verdict} == {
        Verdict.PASS: 0,
        Verdict.INCONCLUSIVE: 0,
        Verdict.INVALID: 0,
        Verdict.FAIL: 3,
    }


def test_the_gravest_line_is_the_verdict_in_any_order():
    lines = [auc_between(0.4, 0.5), auc_between(0.55, 0.65), auc_between(0.7, 0.8)]
    for order in itertools.permutations(lines):
        assert verdict_of(*order).verdict is Verdict.FAIL
    assert verdict_of(*lines[:2]).verdict is Verdict.INCONCLUSIVE


def test_a_finding_has_a_figure_or_a_reason_and_not_both():
    cases: tuple[dict[str, Any], ...] = (
        {},
        {"absent": ""},
        {"estimate": Proportion(1, 2), "absent": "withheld"},
        {"estimate": Proportion(1, 2), "applies": False},
        {"estimate": Resampled(math.nan, np.zeros(3))},
    )
    for case in cases:
        with pytest.raises(InvalidScores, match="membership, lira, auc"):
            Finding("membership", "lira", "auc", "server", "as configured", **case)
