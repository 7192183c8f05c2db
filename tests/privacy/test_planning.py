"""Plans are what a run would do: same noise, same epsilon, and never a round too many."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securefed.errors import ConfigurationError, PrivacyError
from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import Event, epsilon, solve_noise_multiplier
from securefed.privacy.distributed import calibrate
from securefed.privacy.planning import (
    MOST_ROUNDS,
    HospitalPlan,
    SharedNoise,
    Training,
    affordable_rounds,
    noise_for,
)
from securefed.privacy.sampling import Batch


def training(records: int = 300, batch: int = 100, **changes: Any) -> Training:
    values: dict[str, Any] = {"local_steps": 1, "delta": 1e-5, "accountant": "rdp", **changes}
    return Training("a", records, Batch(batch), **values)


@pytest.mark.parametrize(("records", "batch"), [(300, 100), (7, 100), (100, 100), (3, 1)])
def test_the_sampling_rate_is_that_of_training(records: int, batch: int) -> None:
    assert training(records, batch).sample_rate == min(1.0, batch / records)


@pytest.mark.parametrize("accountant", ["prv", "rdp"])
def test_noise_is_what_the_run_solves_and_keeps_to_the_target(accountant: Accountant) -> None:
    plan = training(local_steps=2, accountant=accountant)
    noise = noise_for(plan, 40, 8.0)
    assert noise == solve_noise_multiplier(8.0, 1e-5, 1 / 3, 80, accountant)
    assert 7.9 < HospitalPlan(plan, 40, noise).guarantee.counted <= 8.0


def test_epsilon_is_that_of_all_steps_composed_as_one_history() -> None:
    plan = HospitalPlan(training(local_steps=3, accountant="prv"), 20, 1.5)
    expected = epsilon([Event(1.5, 1 / 3, 60)], 1e-5, "prv")
    assert plan.guarantee.counted == expected
    assert plan.after(20).prv == expected
    assert plan.after(20).rdp == epsilon([Event(1.5, 1 / 3, 60)], 1e-5, "rdp")


def test_published_figures_come_back() -> None:
    # docs/privacy-accounting.md: noise 1.0, rate 0.1, 200 steps, delta 1e-5.
    end = HospitalPlan(training(1000, 100, accountant="prv"), 200, 1.0).after(200)
    assert end.prv == pytest.approx(9.982, abs=5e-4)
    assert end.rdp == pytest.approx(11.016, abs=5e-4)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    records=st.integers(50, 5000),
    batch=st.integers(1, 200),
    steps=st.integers(1, 4),
    noise=st.floats(0.5, 20),
    target=st.floats(0.1, 20),
)
def test_affordable_rounds_fit_and_one_more_does_not(
    records: int, batch: int, steps: int, noise: float, target: float
) -> None:
    plan = training(records, batch, local_steps=steps)
    most = affordable_rounds(plan, noise, target)
    assert 0 <= most <= MOST_ROUNDS
    assert most == 0 or plan.spent(noise, most) <= target
    assert most == MOST_ROUNDS or plan.spent(noise, most + 1) > target


@pytest.mark.parametrize("target", [1.2, 4.0, 8.0])
def test_affordable_rounds_by_prv_are_those_of_a_count_one_by_one(target: float) -> None:
    plan = training(accountant="prv")
    counted = 0
    while plan.spent(1.9781, counted + 1) <= target:
        counted += 1
    assert affordable_rounds(plan, 1.9781, target) == counted


def test_rounds_for_solved_noise_are_the_rounds_it_was_solved_for() -> None:
    plan = training(accountant="prv")
    assert affordable_rounds(plan, noise_for(plan, 80, 8.0), 8.0) == 80


def test_the_curve_rises_from_the_first_round_to_the_last() -> None:
    plan = HospitalPlan(training(accountant="prv"), 80, 1.9781)
    curve = plan.curve()
    rounds = [point.rounds for point in curve]
    assert rounds[0] == 1
    assert rounds[-1] == 80
    for accountant in ("prv", "rdp"):
        values = [getattr(point, accountant) for point in curve]
        assert values == sorted(values)
        assert values[0] < values[-1]
    assert all(p.prv is not None and p.rdp is not None and p.prv < p.rdp for p in curve)


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_a_short_plan_has_a_point_for_every_round(rounds: int) -> None:
    curve = HospitalPlan(training(), rounds, 1.0).curve()
    assert [point.rounds for point in curve] == list(range(1, rounds + 1))


def test_where_prv_has_no_figure_rdp_decides_alone() -> None:
    end = HospitalPlan(training(delta=1e-16), 10, 2.0).after(10)
    assert end.prv is None
    assert end.rdp is not None
    with pytest.raises(PrivacyError, match="PRV"):
        HospitalPlan(training(delta=1e-16, accountant="prv"), 10, 2.0).after(10)


def test_noise_of_the_mean_gradient_falls_with_the_batch() -> None:
    assert HospitalPlan(training(300, 100), 1, 2.0).noise_of_mean == pytest.approx(0.02)
    # A batch larger than the hospital is the whole hospital.
    assert HospitalPlan(training(50, 100), 1, 2.0).noise_of_mean == pytest.approx(0.02)


def test_a_guarantee_says_what_its_epsilon_means() -> None:
    text = str(HospitalPlan(training(unit="image"), 10, 2.0).guarantee)
    for part in ("delta 1e-05", "per image", "add/remove", "poisson", "RDP"):
        assert part in text


def test_shared_noise_is_smaller_per_hospital_and_enough_together() -> None:
    noise = calibrate(2.0, dimension=512, rounds=80, counted=4, hospitals=5, expected_batch=500)
    shared = SharedNoise.of(noise, 5)
    assert shared.noise_multiplier >= 2.0
    # Four counted shares make the multiplier, up to what rounding adds to a patient's norm.
    together = shared.share * math.sqrt(shared.counted)
    assert together == pytest.approx(2.0 * (1 + noise.norm_growth), rel=1e-6)
    assert shared.of_the_sum == pytest.approx(shared.share * math.sqrt(5))


@pytest.mark.parametrize(
    "changes", [{"local_steps": 0}, {"local_steps": 1.5}, {"local_steps": True}]
)
def test_a_training_without_whole_steps_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="local steps of a"):
        training(**changes)


@pytest.mark.parametrize(("records", "batch"), [(0, 1), (-3, 1), (10, 0)])
def test_a_training_without_patients_or_batch_is_refused(records: int, batch: int) -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        training(records, batch)


def test_a_delta_of_one_over_patients_is_refused_with_a_better_one() -> None:
    with pytest.raises(PrivacyError, match="not below 1 / 100") as refused:
        training(100, 10, delta=0.01)
    assert refused.value.hint is not None
    assert "0.001" in refused.value.hint


@pytest.mark.parametrize("noise", [0.0, -1.0, 0.049, 1.1e4, math.nan, math.inf])
def test_a_noise_that_no_run_could_have_is_refused(noise: float) -> None:
    with pytest.raises(ConfigurationError, match="noise_multiplier"):
        affordable_rounds(training(), noise, 8.0)


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf])
def test_a_target_that_is_no_budget_is_refused(target: float) -> None:
    with pytest.raises(ConfigurationError, match="epsilon must be positive"):
        affordable_rounds(training(), 1.0, target)
    with pytest.raises(ConfigurationError, match="epsilon must be positive"):
        noise_for(training(), 10, target)


@pytest.mark.parametrize("rounds", [0, -1, MOST_ROUNDS + 1])
def test_rounds_out_of_range_are_refused(rounds: int) -> None:
    with pytest.raises(ConfigurationError, match="rounds"):
        noise_for(training(), rounds, 8.0)
