"""Direct tests of the mechanism: the law of a release, every test of what is left, and the bound.

Statistical tests fix their seed; where a share is compared with its expectation, four standard
errors are allowed, a false alarm in 16,000.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from attacks.direct_tests import blind, residuals
from attacks.direct_tests.blind import lengths
from attacks.direct_tests.controls import controls
from attacks.direct_tests.law import Law, Part
from attacks.direct_tests.patients import rounds_to_look_at, unpredictable
from attacks.direct_tests.releases import SUM, Releases, series, untestable
from attacks.direct_tests.residuals import Residuals, two_hospitals, worst
from attacks.epsilon.noise_bound import SIGNIFICANCE, Measured, implied
from attacks.epsilon.trade_off import SubsampledGaussian
from attacks.findings import LARGEST_SURPRISE, Surprise
from attacks.result import Effort
from attacks.subject import Hospital, Subject, Training
from attacks.verdicts import gate_complaint
from securefed.auditing.policy import read_policy
from securefed.exposure import Exposure, RoundView
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.model.sharing import shared_names
from securefed.model.strategies.fedadam import FedAdam

SIZE, ROUNDS, RATE = 60, 12, 0.3


def ignore(share: float) -> None:
    """Progress that nobody watches."""


# --- the law ------------------------------------------------------------------------------------


def rows_of(rng: np.random.Generator, patients: int) -> np.ndarray:
    """Clipped gradients over the noise: a common direction and a few others."""
    few = rng.normal(size=(5, SIZE)) / math.sqrt(SIZE)
    return (rng.normal(size=(patients, 5)) + np.eye(5)[0]) @ few


@pytest.mark.parametrize("patients", [7, 200])  # fewer and more than parameters
def test_the_residual_is_whitened_as_by_the_inverse_covariance(patients: int) -> None:
    rng = np.random.default_rng(1)
    rows, value = rows_of(rng, patients), rng.normal(size=SIZE)
    found = Law.of([Part(rows, np.zeros(SIZE), RATE)]).whiten(value)
    left = value - RATE * rows.sum(axis=0)
    covariance = np.eye(SIZE) + RATE * (1 - RATE) * rows.T @ rows
    # The symmetric root, which leaves quiet directions as they are.
    values, directions = np.linalg.eigh(covariance)
    naive = directions @ (directions.T @ left / np.sqrt(values))
    np.testing.assert_allclose(found.residual, naive, atol=1e-9)
    assert found.residual @ found.residual == pytest.approx(
        left @ np.linalg.solve(covariance, left)
    )
    assert found.quiet[1] == np.sum(values < 1.02)


def test_several_hospitals_in_a_sum_add_up_their_means_and_covariances() -> None:
    rng = np.random.default_rng(2)
    one, other, value = rows_of(rng, 20), rows_of(rng, 30), rng.normal(size=SIZE)
    parts = [Part(one, np.zeros(SIZE), 0.2), Part(other, np.zeros(SIZE), 0.5)]
    left = value - 0.2 * one.sum(axis=0) - 0.5 * other.sum(axis=0)
    covariance = np.eye(SIZE) + 0.16 * one.T @ one + 0.25 * other.T @ other
    residual = Law.of(parts).whiten(value).residual
    assert residual @ residual == pytest.approx(left @ np.linalg.solve(covariance, left))


def simulated(
    rng: np.random.Generator, *, noise: float = 1.0, rate: float = RATE, patients: int = 40
) -> Residuals:
    rows = rows_of(rng, patients)
    law = Law.of([Part(rows, np.zeros(SIZE), RATE)])
    drawn = rng.random((ROUNDS, patients)) < rate
    values = drawn @ rows + noise * rng.normal(size=(ROUNDS, SIZE))
    rounds = [(number, law.whiten(value)) for number, value in enumerate(values, start=1)]
    return Residuals.of("hospital-1", rounds)


def test_every_test_of_an_honest_run_is_calibrated() -> None:
    rng = np.random.default_rng(3)
    runs = [simulated(rng) for _ in range(400)]
    tried = [run.tests() for run in runs]
    for method in tried[0]:
        p_values = np.array([10.0 ** -each[method].value for each in tried])
        error = math.sqrt(0.1 * 0.9 / len(runs))
        # Bonferroni makes the tests of a worst round or pair a little careful.
        careful = method in (residuals.WORST, residuals.REPEATS)
        assert (p_values < 0.1).mean() == pytest.approx(0.1, abs=(6 if careful else 4) * error)
        assert p_values.min() > 1e-5


def test_the_dose_is_the_factor_on_what_patients_were_to_give() -> None:
    rng = np.random.default_rng(4)
    doses = [simulated(rng, rate=1.2 * RATE).dose for _ in range(200)]
    mean = np.mean([dose.estimate for dose in doses])
    assert mean == pytest.approx(1.2, abs=4 * doses[0].error / math.sqrt(200))


def test_noise_is_measured_to_a_few_percent() -> None:
    found = simulated(np.random.default_rng(5), noise=0.8)
    assert found.noise_ratio == pytest.approx(0.8, abs=4 * 0.8 / math.sqrt(2 * found.quiet[1]))
    assert found.tests()[residuals.NOISE].value > 4


def test_noise_that_two_hospitals_share_is_noticed() -> None:
    rng = np.random.default_rng(6)
    one, other = simulated(rng), simulated(rng)
    apart, alike = two_hospitals((one, other)), two_hospitals((one, replace(one, name="other")))
    assert apart
    assert alike
    assert apart.value < 4 < alike.value
    assert two_hospitals((one,)) is None


def test_the_worst_of_several_series_pays_for_having_been_chosen() -> None:
    chosen = worst([Surprise(5.0, "b"), Surprise(1.0, "a")])
    assert chosen.of == "b"
    assert chosen.value == pytest.approx(5 - math.log10(2))
    assert Surprise.at(-math.inf, "nothing").value == LARGEST_SURPRISE


# --- without the patients -----------------------------------------------------------------------


def releases(values: np.ndarray) -> Releases:
    count, size = values.shape
    starts = (np.zeros(size, np.float32),) * count
    return Releases(
        "sum", tuple(range(1, count + 1)), starts, values, ({"hospital-1": 1.0},) * count
    )


def test_what_patients_add_never_looks_like_missing_noise() -> None:
    rng = np.random.default_rng(7)
    for strength in (0.0, 1.0, 30.0):
        drift = strength * np.cumsum(rng.normal(size=(13, 3)), axis=0) @ rng.normal(size=(3, SIZE))
        found = lengths(releases(drift + rng.normal(size=(13, SIZE))))
        assert found
        assert all(each.value < 4 for each in found.tests().values())


def test_one_silent_round_is_found_and_half_the_noise_in_all() -> None:
    rng = np.random.default_rng(8)
    values = rng.normal(size=(13, SIZE))
    values[-1] = 0.0  # an odd number of rounds: the first is in no pair
    found = lengths(releases(values))
    assert found
    assert found.tests()[blind.WORST].of == "sum, round 13"
    assert found.tests()[blind.WORST].value > 4
    half = lengths(releases(0.5 * rng.normal(size=(13, SIZE))))
    assert half
    assert half.tests()[blind.NOISE].value > 4


def test_two_rounds_are_enough_and_one_is_not() -> None:
    values = np.random.default_rng(9).normal(size=(2, SIZE))
    found = lengths(releases(values))
    assert found
    assert found.of_pairs[1].tolist() == [SIZE]
    assert lengths(releases(values[:1])) is None


# --- from a run ---------------------------------------------------------------------------------


def patients(count: int) -> PatientTensors:
    images = torch.zeros(count, 2, 1, 32, 32, dtype=torch.uint8)
    present = torch.ones(count, 2, 1, dtype=torch.bool)
    return PatientTensors(("ct", "mri"), images, present, torch.zeros(count))


HOSPITALS = tuple(
    Hospital(
        f"hospital-{i}",
        patients(count),
        patients(0),
        sample_rate=4 / count,
        noise_multiplier=noise,
        claimed_epsilon=3.0,
        weight=count,
        expected_batch=4,
    )
    for i, count, noise in ((1, 10, 1.0), (2, 20, 2.0))
)
TRAINING = Training(
    rounds=2,
    local_steps=1,
    optimizer="sgd",
    learning_rate=0.3,
    clip_norm=0.5,
    unit="patient",
    shared_noise=False,
    strategy=FedAdam(0.05),
    delta=1e-5,
)
NETWORK = FusionNetwork(NetworkShape(image_size=32))


def subject(**training: Any) -> Subject:
    return Subject(
        configuration="dp",
        network=NETWORK,
        shared=tuple(shared_names(NETWORK, "fusion+classifier")),
        encoders_train=False,
        hospitals=HOSPITALS,
        training=replace(TRAINING, **training),
        seed=0,
    )


def test_a_series_is_in_units_of_its_own_noise() -> None:
    """Updates whose sums of gradients are 8 and 6 in each entry."""
    of_run, start = subject(), np.zeros(3, np.float32)
    step = -0.3 / 4
    updates = {"hospital-1": np.full(3, 8 * step), "hospital-2": np.full(3, 6 * step)}
    mean = (10 * updates["hospital-1"] + 20 * updates["hospital-2"]) / 30
    view = RoundView(1, start, updates, {}, mean, tuple(updates))
    told = series(of_run, Exposure("server", (), "dp", (view,), start))
    assert [each.name for each in told] == ["hospital-1", "hospital-2"]
    np.testing.assert_allclose([each.values[0, 0] for each in told], [8 / 0.5, 6 / 1.0])
    assert told[1].factors == ({"hospital-2": 1.0},)
    masked = replace(view, updates={})
    (summed,) = series(of_run, Exposure("server", (), "dp+secure", (masked,), start))
    noise = math.hypot(10 * 0.5, 20 * 1.0)
    assert summed.name == SUM
    np.testing.assert_allclose(summed.values[0], (10 * 8 + 20 * 6) / noise)
    assert summed.factors[0] == pytest.approx({"hospital-1": 10 / noise, "hospital-2": 20 / noise})


def test_a_sum_of_shared_noise_counts_every_patient_alike() -> None:
    of_run, start = subject(shared_noise=True), np.zeros(3, np.float32)
    view = RoundView(1, start, {}, {}, np.full(3, -0.3 / 8 * 7), ("hospital-1", "hospital-2"))
    (summed,) = series(of_run, Exposure("server", (), "dp+secure", (view,), start))
    np.testing.assert_allclose(summed.values[0], 7 / math.hypot(0.5, 1.0))


@pytest.mark.parametrize(
    ("training", "why"),
    [
        ({"clip_norm": None}, "claims no epsilon"),
        ({"optimizer": "adam"}, "scales every entry apart"),
        ({"value_range": 0.1}, "does not fit the range"),
        ({"learning_rate": 1e-5}, "raise training.learning_rate"),
    ],
)
def test_a_run_whose_noise_cannot_be_told_says_why(training: dict[str, Any], why: str) -> None:
    assert why in untestable(subject(**training))
    assert not untestable(subject())


def test_a_round_that_cannot_be_predicted_says_why() -> None:
    of_run = subject()
    assert not unpredictable(of_run)
    assert "local steps" in unpredictable(subject(local_steps=3))
    assert "encoders train" in unpredictable(replace(of_run, encoders_train=True))
    classifier = tuple(shared_names(NETWORK, "classifier"))
    assert "fusion stays" in unpredictable(replace(of_run, shared=classifier))


def test_first_and_last_rounds_are_looked_at_in_pairs_at_every_effort() -> None:
    crowd = replace(HOSPITALS[0], train=patients(600))
    of_run = replace(subject(), hospitals=(crowd, crowd))
    numbers = list(range(1, 81))
    assert rounds_to_look_at(numbers, of_run, Effort.QUICK) == [1, 2, 40, 41, 79, 80]
    assert len(rounds_to_look_at(numbers, of_run, Effort.DEFAULT)) == 20
    assert rounds_to_look_at(numbers, of_run, Effort.THOROUGH) == numbers
    assert rounds_to_look_at([5], of_run, Effort.QUICK) == [5]


# --- the bound and the controls -----------------------------------------------------------------


def claiming(noise: float) -> Hospital:
    epsilon = SubsampledGaussian(0.4, 10).curve(noise).epsilon(1e-5)
    return replace(HOSPITALS[0], claimed_epsilon=epsilon + 0.01, accounted_noise=noise)


def test_the_implied_epsilon_is_under_an_honest_claim_and_over_a_false_one() -> None:
    honest = implied(claiming(1.5), 10, 1e-5, [Measured(3_000.0, 3_000)], 1)
    halved = implied(claiming(1.5), 10, 1e-5, [Measured(750.0, 3_000)], 1)
    silent = implied(claiming(1.5), 10, 1e-5, [Measured(0.0, 3_000)], 1)
    assert honest
    assert halved
    assert silent
    assert honest.claim is not None
    assert 0.8 * honest.claim < honest.value < honest.claim
    assert honest.power is not None
    assert honest.power > 0.99
    assert not honest.refutes
    assert halved.refutes
    assert silent.value > halved.value > 2 * honest.claim


def test_the_bound_on_the_noise_fails_as_rarely_as_it_says() -> None:
    squares = np.random.default_rng(10).chisquare(50, 20_000)
    level = 0.01
    beyond = np.mean([Measured(float(each), 50).at_most(level) < 1.0 for each in squares])
    assert beyond == pytest.approx(level, abs=4 * math.sqrt(level / 20_000))
    assert SIGNIFICANCE <= 1e-4


def test_a_claim_of_an_older_history_leaves_the_bound_no_power() -> None:
    older = replace(claiming(1.5), claimed_epsilon=100.0)
    bound = implied(older, 10, 1e-5, [Measured(3_000.0, 3_000)], 1)
    assert bound
    assert bound.power == 0.0


@pytest.mark.parametrize("seed", [0, 7])
def test_controls_meet_the_default_policys_gates(seed: int) -> None:
    found = controls(seed, ignore).controls
    gates = [gate for gate in read_policy().gates if gate.attack == "direct tests"]
    assert {gate.metric for gate in gates} == {each.metric for each in found}
    assert {gate.control for gate in gates} == {each.control for each in found}
    assert [gate_complaint(gate, found) for gate in gates] == [None] * len(gates)
