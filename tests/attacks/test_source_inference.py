"""Whose patient it is: told from updates and from changing sums, not from a sum of everybody."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from attacks.family import Case
from attacks.membership.federation_replay import Pool, ReplayPlan, trajectory
from attacks.membership.pooled_controls import sampled_fixture
from attacks.membership.pooled_rounds import pool_rounds
from attacks.membership.shadow_models import NoShadows
from attacks.result import AttackResult
from attacks.source.attack import attack, ranked
from attacks.source.controls import controls, sums
from attacks.verdicts import gate_complaint
from securefed.auditing.policy import read_policy
from securefed.exposure import Exposure, Observer, RoundView

Fixture = tuple[Pool, ReplayPlan, list[RoundView]]


@pytest.fixture(scope="module")
def fixture() -> Fixture:
    pool, plan = sampled_fixture(2)
    return pool, plan, list(trajectory(plan, pool, pool.is_member, 2))


def attacked(
    fixture: Fixture,
    views: list[RoundView],
    observer: Observer = "server",
    members: tuple[str, ...] = (),
    **change: Any,
) -> AttackResult:
    pool, plan, all_views = fixture
    subject: Any = SimpleNamespace(hospitals=plan.hospitals, seed=0)
    seen = Exposure(observer, members, "plain", tuple(views), all_views[-1].shared)
    case: Any = SimpleNamespace(subject=subject)
    pooled = pool_rounds(plan, pool, {observer: seen}, 10_000, lambda share: None, **change)
    return attack(case, seen, pooled.get(observer))


def test_controls_meet_every_gate_of_the_default_policy():
    gates = [gate for gate in read_policy().gates if gate.attack == "source inference"]
    found = controls(0, lambda share: None).controls
    assert len(gates) == 3
    assert [gate_complaint(gate, found) for gate in gates] == [None] * 3


def test_updates_in_the_clear_tell_whose_patient_it_is(fixture: Fixture):
    result = attacked(fixture, fixture[2])
    (finding,) = result.findings
    assert finding.estimate is not None
    assert finding.estimate.value > 0.9
    assert finding.estimate.interval(0.95).lower > 0.85
    assert result.details["share by chance"] == 0.5
    # Held-out patients are nobody's: what is told of them is case mix, which the fixture has not.
    assert result.details["auc of held-out patients"] == pytest.approx(0.5, abs=0.2)


def test_changing_sums_tell_it_too(fixture: Fixture):
    _, plan, views = fixture
    one, other = (each.name for each in plan.hospitals)
    (finding,) = attacked(fixture, sums(plan, views, [(one,), (other,), (one, other)])).findings
    assert finding.estimate is not None
    assert finding.estimate.interval(0.95).lower > 0.7


def absent(result: AttackResult) -> str:
    (finding,) = result.findings
    assert finding.estimate is None
    assert not finding.applies
    return str(finding.absent)


def test_where_it_does_not_apply_it_says_why(fixture: Fixture):
    _, plan, views = fixture
    names = tuple(each.name for each in plan.hospitals)
    everybody = sums(plan, views, [names])
    assert "of the same hospitals" in absent(attacked(fixture, everybody))
    assert "one hospital is not its own" in absent(attacked(fixture, views, "coalition", names[:1]))
    assert "saw no update" in absent(attacked(fixture, [], "outsider"))
    assert "encoders" in absent(attacked(fixture, views, unknown="encoders train too"))
    case: Any = SimpleNamespace(subject=SimpleNamespace(hospitals=plan.hospitals, seed=0))
    nobody = NoShadows("nobody can query it")
    seen = Exposure("server", (), "plain", tuple(views), views[0].shared)
    assert absent(attack(case, seen, nobody)) == "nobody can query it"


def test_a_tie_is_half_a_win_and_hospitals_not_asked_do_not_count():
    ratios = np.array([[2.0, 1.0, 9.0, 2.0], [0.0, 3.0, 9.0, -1.0]])
    asked = np.array([True, True, False, True])
    np.testing.assert_allclose(ranked(ratios, np.array([0, 1]), asked), [0.75, 1.0])


@pytest.mark.parametrize("seed", range(4))
def test_strangers_are_nobodys_in_particular(seed: int):
    # Their own pool must not look nearer for being known: 50 strangers of two pools, 99.9 %.
    control = controls(seed, lambda share: None).controls[-1]
    assert control.control == "patients of nobody"
    assert control.interval is not None
    assert control.interval.holds(0.5)


def test_the_case_is_worked_out_once(monkeypatch: pytest.MonkeyPatch):
    from attacks.membership import pooled_rounds

    calls: list[str] = []

    def candidates(subject: Any, released: bytes) -> Any:
        return SimpleNamespace(plan=None, pool=None)

    def pool(*_: Any, unknown: str) -> dict[str, Any]:
        calls.append(unknown)
        return {}

    monkeypatch.setattr(pooled_rounds, "candidates", candidates)
    monkeypatch.setattr(pooled_rounds, "pool_rounds", pool)
    subject: Any = SimpleNamespace(encoders_train=True, hospitals=(), training=None)
    seen = Exposure("outsider", (), "plain", (), np.zeros(1, np.float32))
    from attacks.result import Effort

    case = Case.of(subject, {"outsider": seen}, Effort.QUICK)
    assert pooled_rounds.pooled_of(case, lambda share: None) == {}
    assert pooled_rounds.pooled_of(case, lambda share: None) == {}
    assert len(calls) == 1
    assert "encoders train" in calls[0]
