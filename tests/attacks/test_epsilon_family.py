"""The epsilon audit end to end: a tiny federation as it is, and with half of its noise missing."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attacks.epsilon import known_patients
from attacks.epsilon.attack import FACTOR, GUESSES, NOISE, PAIR, attack
from attacks.epsilon.bounds import composed_bound
from attacks.epsilon.canaries import CanaryPlan, audit_epsilon
from attacks.epsilon.composed_power import (
    CanaryView,
    choose_guesses,
    composed_power,
    critical_count,
    power_of,
)
from attacks.epsilon.controls import controls
from attacks.epsilon.gaussian_pair import pair_power
from attacks.epsilon.known_patients import KnownHospital
from attacks.epsilon.power import guess_accuracy_gaussian
from attacks.epsilon.scene import Scene
from attacks.epsilon.scores import log_ratio, score_laws
from attacks.epsilon.trade_off import SubsampledGaussian
from attacks.epsilon.ways_out import way_out
from attacks.errors import InvalidScores
from attacks.findings import LowerBound
from attacks.result import AttackResult
from attacks.subject import Canaries, Hospital, Subject, Training
from attacks.verdicts import Judgement, judge
from securefed.auditing.policy import read_policy
from securefed.exposure import Exposure, RoundView
from securefed.model.strategies.fedadam import FedAdam
from securefed.model.strategies.strategy import State
from securefed.record.directory import RunDirectory
from securefed.simulation.opening import start
from securefed.simulation.patients import load_data
from securefed.training import canaries, step, trainer
from securefed.training.patients import stack
from securefed.training.private import poisson_sample, private_gradients
from securefed.training.stress import stress_records
from securefed.verdict import Verdict
from tests.tiny import settings_with

RUN = SubsampledGaussian(1 / 3, 80)
FAIL = Verdict.FAIL


def ignore(share: float) -> None:
    """Progress that nobody watches."""


# --- scores and their laws ----------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 4])
def test_the_score_is_the_log_likelihood_ratio(steps):
    x, noise, rate = np.linspace(-5, 9, 41), 1.3, 0.2
    deviation = noise * math.sqrt(steps)

    def density(centre):
        return np.exp(-((x - centre) ** 2) / (2 * deviation**2))

    inside = sum(
        math.comb(steps, k) * rate**k * (1 - rate) ** (steps - k) * density(k)
        for k in range(steps + 1)
    )
    np.testing.assert_allclose(log_ratio(x, noise, rate, steps), np.log(inside / density(0)))


def test_one_full_step_is_guessed_as_a_single_gaussian():
    laws = score_laws(1.0, 1, 1, 0.7, 0.7)
    for share in (0.1, 0.5, 1.0):
        for accuracy in laws.accuracies(share / 2, share / 2):
            assert accuracy == pytest.approx(guess_accuracy_gaussian(1 / 0.7, share), abs=1e-3)


@pytest.mark.parametrize(("steps_per_round", "rounds"), [(1, 80), (8, 10)])
def test_accuracies_are_those_of_simulated_canaries(steps_per_round, rounds):
    rng, noise = np.random.default_rng(3), 1.0
    size = 20_000
    coins = rng.random(size) < 0.5
    drawn = rng.binomial(steps_per_round, 1 / 3, (size, rounds)) * coins[:, None]
    x = drawn + noise * math.sqrt(steps_per_round) * rng.normal(size=(size, rounds))
    scores = log_ratio(x, 1.4, 1 / 3, steps_per_round).sum(axis=1)
    laws = score_laws(1 / 3, steps_per_round, rounds, noise, 1.4)
    ranked = coins[np.argsort(scores)]
    for share in (0.1, 0.3, 0.5):
        called = round(size * share)
        found = ranked[-called:].mean(), (~ranked[:called]).mean()
        for seen, predicted in zip(found, laws.accuracies(share, share), strict=True):
            # Four standard errors at most: a false alarm in 16,000.
            assert seen == pytest.approx(predicted, abs=4 * 0.5 / math.sqrt(called))


# --- power and plan -----------------------------------------------------------------------------


def default_view(noise_ratio=1.0):
    return CanaryView(RUN, RUN.noise_multiplier(8.0, 1e-5), 80, 1, noise_ratio)


def test_power_is_what_simulation_finds():
    view = default_view()
    plan = CanaryPlan.for_run(200, view, 1e-5)
    calls = (plan.guesses_in, plan.guesses_out)
    critical = critical_count(200, plan.guesses, view.contradicted)
    laws = view.laws(view.claimed_noise / 2)
    predicted = composed_power(200, *calls, critical, laws)
    rng, caught = np.random.default_rng(8), 0
    for _ in range(200):
        coins = rng.random(200) < 0.5
        x = (rng.random((200, 80)) < 1 / 3) & coins[:, None]
        x = x + view.claimed_noise / 2 * rng.normal(size=(200, 80))
        scores = log_ratio(x, view.assumed_noise, 1 / 3, 1).sum(axis=1)
        order = np.argsort(scores)
        right = coins[order[-calls[0] :]].sum() + (~coins[order[: calls[1]]]).sum()
        caught += right >= critical
    # 200 runs: four standard errors of a share are .14, and cuts move a little with each run.
    assert caught / 200 == pytest.approx(predicted, abs=0.14)
    assert 0.5 < predicted < 0.8


def test_the_plan_has_more_power_than_guessing_on_all_or_a_few():
    view = default_view()
    chosen = choose_guesses(350, view)
    best = power_of(350, chosen, view, 1e-5, 0.05)
    assert best.against_halved > 0.75 > best.noticed_noise > 0.45
    critical = critical_count(350, sum(chosen), view.contradicted)
    unjust = composed_power(350, *chosen, critical, view.laws(view.claimed_noise))
    assert unjust < 1e-3  # at most the significance, .05, is promised
    for calls in ((175, 175), (20, 20), (150, 150)):
        assert power_of(350, calls, view, 1e-5, 0.05).against_halved < best.against_halved


@pytest.mark.parametrize(("canaries", "spare"), [(350, True), (200, False)])
def test_a_plan_survives_a_wrong_guess_where_that_costs_little(canaries, spare):
    view = default_view()
    calls = choose_guesses(canaries, view)
    critical = critical_count(canaries, sum(calls), view.contradicted)
    assert critical is not None
    assert (critical < sum(calls)) == spare
    if spare:
        # One wrong guess and the bound is still over the claim.
        correct = sum(calls) - 1
        assert composed_bound(canaries, sum(calls), correct, RUN, 1e-5) > 8.0


def test_everybodys_noise_takes_the_power_away():
    alone, summed = (
        power_of(350, choose_guesses(350, view), view, 1e-5, 0.05)
        for view in (default_view(), default_view(2.0))
    )
    assert summed.against_halved < 0.01 < 0.75 < alone.against_halved
    assert summed.visible_epsilon > alone.visible_epsilon


def test_the_smallest_visible_epsilon_is_seen_four_times_in_five():
    view = default_view()
    calls = choose_guesses(350, view)
    found = power_of(350, calls, view, 1e-5, 0.05).visible_epsilon
    noise = RUN.noise_multiplier(found, 1e-5)
    critical = critical_count(350, sum(calls), RUN.curve(2.0**14))
    assert composed_power(350, *calls, critical, view.laws(noise)) == pytest.approx(0.8, abs=0.02)


def test_a_view_that_cannot_be_is_refused():
    view = CanaryView(RUN, claimed_noise=1.0, rounds=80)
    changes: tuple[dict[str, Any], ...] = (
        {"claimed_noise": 0.0},
        {"rounds": 0},
        {"noise_ratio": math.inf},
    )
    for change in changes:
        with pytest.raises(InvalidScores):
            replace(view, **change)


# --- a real federation, honest and not ----------------------------------------------------------

settings_of = settings_with(
    data={"phantom": {"patients": 24, "test_patients": 2}},
    training={"batch_size": 12, "max_slices": 1},
    privacy={"epsilon": 4.0, "seeded_noise": True},
    secure_aggregation={"enabled": False},
    federation={"rounds": 24, "clients": 2, "evaluate_every": 100, "timeout_s": 100.0},
    canaries={"count": 350},
    seed=5,
)


class Run:
    """A finished run: subject, the server's view and the canaries."""

    def __init__(self, path: Path, factor: float, drawn: float = 1.0, **sections: Any) -> None:
        settings = settings_of(**sections)
        coins = np.random.default_rng(7).random(350) < 0.5

        def fixed(hospital: str, count: int, parameters: int) -> canaries.CanarySecret:
            return canaries.CanarySecret(hospital, parameters, "7" * 32, coins[:count])

        def tampered(*args: Any, noise_multiplier: float, **options: Any) -> Any:
            return private_gradients(*args, noise_multiplier=factor * noise_multiplier, **options)

        def often(records: int, rate: float, source: Any) -> Any:
            return poisson_sample(records, min(1.0, drawn * rate), source)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trainer, "poisson_sample", often)
            patch.setattr(canaries, "draw", fixed)  # fixed coins, so that the test is
            patch.setattr(step, "private_gradients", tampered)
            data = load_data(settings)
            simulation = start(settings, RunDirectory.create(path), lambda _: None, data=data)
            views, state = [], State()
            for number in range(1, settings.federation.rounds + 1):
                shared = simulation.server.shared.astype(np.float32)
                updates = {}
                for name, hospital in simulation.hospitals.items():
                    hospital.trainer.receive(shared)
                    updates[name] = hospital.trainer.contribute(number).astype(np.float32)
                mean = np.mean(list(updates.values()), axis=0)
                server = simulation.server
                server.shared, state = simulation.job.strategy.step(
                    server.shared, mean.astype(np.float64), state
                )
                views.append(RoundView(number, shared, updates, {}, mean, tuple(updates)))
        released = simulation.server.shared.astype(np.float32)
        self.exposure = Exposure("server", (), settings.configuration, tuple(views), released)
        spent = simulation.group.guarantees()
        hospitals = []
        for each in data.hospitals:
            event = simulation.hospitals[each.name].trainer.event
            train = stack(each.train, 1)
            hospitals.append(
                Hospital(
                    name=each.name,
                    train=train,
                    held_out=train[:0],
                    sample_rate=0.5,
                    noise_multiplier=event.noise_multiplier if event else 0.0,
                    claimed_epsilon=spent[each.name].counted if spent else None,
                    weight=len(train),
                    expected_batch=12,
                    accounted_noise=event.noise_multiplier if event else 0.0,
                )
            )
        self.subject = Subject(
            configuration=settings.configuration,
            network=simulation.job.network,
            shared=tuple(simulation.job.shared_names),
            encoders_train=False,
            hospitals=tuple(hospitals),
            training=Training(
                rounds=settings.federation.rounds,
                local_steps=1,
                optimizer="sgd",
                learning_rate=settings.training.learning_rate,
                clip_norm=1.0 if settings.privacy.dp else None,
                unit="patient",
                shared_noise=False,
                strategy=FedAdam(0.03),
                delta=1e-3,
            ),
            seed=5,
        )
        secret = canaries.read(path / "hospitals" / hospitals[0].name)
        stress = stress_records(secret.seed, secret.stress, simulation.job.network)
        canaries_held = Canaries(secret.hospital, secret.included, secret.directions(), stress)
        self.subject = replace(self.subject, canaries=canaries_held)
        self.parameters = simulation.job.shared

    def audit(self, **changes: Any) -> AttackResult:
        exposure = Exposure(**{**vars(self.exposure), **changes})
        return attack(self.subject, exposure, ignore)


def bound_of(result: AttackResult, method: str = GUESSES) -> LowerBound:
    (finding,) = (each for each in result.findings if each.method == method)
    assert isinstance(finding.estimate, LowerBound)
    return finding.estimate


def why_absent(result: AttackResult) -> dict[str, str]:
    """Method -> why it has no figure."""
    return {each.method: each.absent for each in result.findings if each.absent is not None}


def judgements(result: AttackResult) -> dict[str, Judgement]:
    """Method -> its line under the default policy."""
    verdict = judge(result.findings, controls().controls, read_policy())
    return {line.method: line for line in verdict.judgements if line.attack == "epsilon"}


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("honest") / "run", 1.0)


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("halved") / "run", 0.5)


# The seeds are fixed. Over fresh noise and coins the honest run would be contradicted with
# probability below .001 (the test of the plan's power computes it), and the halved one missed with
# 1 - power_halved_noise.


def test_half_the_noise_is_caught_though_the_ledger_claims_all_of_it(halved):
    result = halved.audit()
    for method in (GUESSES, PAIR, NOISE):
        bound = bound_of(result, method)
        assert bound.claim == pytest.approx(4.0, abs=0.02)
        assert bound.claim is not None
        assert bound.value > bound.claim
    assert {method for method, line in judgements(result).items() if line.verdict is FAIL} == {
        GUESSES,
        PAIR,
        NOISE,
    }


def test_its_honest_twin_is_not_contradicted_and_still_visible(honest):
    result = honest.audit()
    for method in (GUESSES, PAIR, NOISE):
        bound = bound_of(result, method)
        assert bound.claim is not None
        assert 0.5 < bound.value < bound.claim
        assert bound.power is not None
        assert bound.power > 0.75
    lines = judgements(result)
    assert {lines[method].verdict for method in (PAIR, NOISE, FACTOR)} == {Verdict.PASS}
    assert Verdict.INCONCLUSIVE not in {line.verdict for line in lines.values()}
    # Noise alone is measured best, then scores as they are; guesses keep least of what is there.
    values = [bound_of(result, method).value for method in (NOISE, PAIR, GUESSES)]
    assert values == sorted(values, reverse=True)


def test_a_line_of_guesses_says_how_many_were_right_and_what_all_of_them_would_say(honest):
    result = honest.audit()
    (line,) = result.lines["epsilon"]
    guesses, correct = line["guesses"], line["correct"]
    most = math.floor(100 * line["largest_bound"]) / 100
    reason = judgements(result)[GUESSES].reason
    assert f"{correct} of {guesses} guesses right; the most they could certify is {most}" in reason


@pytest.mark.parametrize(("often", "verdict"), [(1.0, Verdict.PASS), (2.0, FAIL)])
def test_patients_count_as_often_as_they_were_drawn(tmp_path, often, verdict):
    # Little noise and few canaries, so that two dozen patients show.
    result = Run(
        tmp_path / "run",
        1.0,
        often,
        privacy={"epsilon": 60.0},
        federation={"rounds": 40},
        canaries={"count": 40},
    ).audit()
    error = result.details["patients_factor_error"]
    assert error < 1 / 3
    assert result.details["patients_factor"] == pytest.approx(often, abs=4 * error)
    assert judgements(result)[FACTOR].verdict is verdict


def test_a_sum_over_patients_is_the_same_in_pieces(honest, monkeypatch):
    start = [honest.exposure.rounds[5].shared]
    whole = KnownHospital.of(honest.subject, 0).expected_sums(start, ignore)
    monkeypatch.setattr(known_patients, "LARGEST", 5 * start[0].size)
    in_pieces = KnownHospital.of(honest.subject, 0)
    assert len(in_pieces.records) > 10
    np.testing.assert_allclose(in_pieces.expected_sums(start, ignore), whole, rtol=1e-5, atol=1e-6)


def test_the_same_audit_gives_the_same_answer(honest):
    first, second = honest.audit(), honest.audit()
    assert first.findings == second.findings
    assert first.lines == second.lines


def test_coins_that_were_not_the_runs_certify_nothing(halved):
    right = halved.subject.canaries
    other = Canaries(
        right.hospital, np.random.default_rng(1).permutation(right.included), right.directions
    )
    subject = replace(halved.subject, canaries=other)
    result = attack(subject, halved.exposure, ignore)
    assert bound_of(result).value == 0.0
    assert bound_of(result, PAIR).value == 0.0


def test_the_mean_alone_is_read_under_everybodys_noise(honest):
    blind = tuple(
        RoundView(v.number, v.shared, {}, {}, v.mean, v.survivors) for v in honest.exposure.rounds
    )
    result = honest.audit(rounds=blind)
    assert result.details["seen"] == "means"
    # Two equal hospitals: twice the variance.
    assert result.details["noise_seen_over_claimed"] == pytest.approx(math.sqrt(2), rel=1e-3)
    power, alone = bound_of(result).power, bound_of(honest.audit()).power
    assert power is not None
    assert alone is not None
    assert power < alone
    assert not bound_of(result).refutes
    (noise, pair) = (bound_of(result, method) for method in (NOISE, PAIR))
    assert not noise.refutes
    assert not pair.refutes
    assert noise.value < bound_of(honest.audit(), NOISE).value
    # A peer works the mean out from models; what rests on its exact size is left out.
    peer = why_absent(honest.audit(observer="peer", rounds=blind))
    assert set(peer) == {NOISE, FACTOR}
    assert "worked out" in peer[NOISE]


def test_an_outsider_has_the_released_parameters_and_says_what_that_costs(honest):
    result = honest.audit(observer="outsider", rounds=())
    assert result.details["seen"] == "changes"
    assert any("change of the parameters" in remark for remark in result.details["remarks"])
    assert bound_of(result).power == 0.0
    assert bound_of(result).least_visible == math.inf
    assert set(why_absent(result)) == {PAIR, NOISE, FACTOR}
    assert not bound_of(result).refutes


def test_a_colluding_hospital_of_the_canaries_is_no_attacker(honest):
    name = honest.subject.canaries.hospital
    result = honest.audit(observer="peer", members=(name,))
    assert len(why_absent(result)) == len(result.findings)
    assert all("coins" in why for why in why_absent(result).values())


def test_a_run_without_canaries_says_how_to_hold_some(honest):
    subject = replace(honest.subject, canaries=None)
    result = attack(subject, honest.exposure, ignore)
    assert len(why_absent(result)) == len(result.findings)
    assert all("--canaries" in why for why in why_absent(result).values())
    # Nothing that the policy asks of the family is left open.
    assert {line.verdict for line in judgements(result).values()} == {None}


def test_canaries_of_another_run_are_refused(honest):
    wrong = Canaries("hospital-1", np.ones(3, np.bool_), np.eye(3, 9, dtype=np.float32))
    subject = replace(honest.subject, canaries=wrong)
    with pytest.raises(InvalidScores, match="9 parameters"):
        attack(subject, honest.exposure, ignore)
    with pytest.raises(InvalidScores, match="included"):
        Canaries("hospital-1", np.ones(4, np.bool_), np.eye(3, 9, dtype=np.float32))


def test_without_a_claim_scores_show_the_leak_and_nothing_is_judged(tmp_path):
    privacy = {"dp": False}
    result = Run(tmp_path / "run", 1.0, privacy=privacy).audit()
    bound = bound_of(result)
    assert bound.claim is None
    assert bound.power is None
    # Nothing hides them: with every guess right the bound is as large as it can be.
    (line,) = result.lines["epsilon"]
    assert line["correct"] >= 330
    assert set(why_absent(result)) == {PAIR, NOISE, FACTOR}
    assert bound.value > 2


# --- what would settle it ------------------------------------------------------------------------


def test_an_open_claim_names_the_observer_who_can_settle_it(honest):
    lines = judgements(honest.audit(observer="outsider", rounds=())).values()
    (line,) = (each for each in lines if each.verdict is Verdict.INCONCLUSIVE)
    assert "released" in line.remedy
    blind = tuple(
        RoundView(v.number, v.shared, {}, {}, v.mean, v.survivors) for v in honest.exposure.rounds
    )
    scene = Scene(honest.subject, honest.subject.canaries)
    of_mean = way_out(scene, scene.look(replace(honest.exposure, rounds=blind)))
    assert "1.4 times the noise" in of_mean
    for remedy in (line.remedy, of_mean):
        assert "--observer coalition" in remedy
        assert "--no-secure" in remedy


def test_too_few_canaries_are_told_how_many_would_do(honest):
    held = honest.subject.canaries
    few = Canaries(held.hospital, held.included[:24], held.directions[:24])
    subject = replace(honest.subject, canaries=few)
    scene = Scene(subject, few)
    seen = scene.look(honest.exposure)
    told = re.fullmatch(
        r"a run of 24 rounds with --canaries (\d+), where half the noise is noticed with "
        r"probability ([.\d]+)",
        way_out(scene, seen),
    )
    assert told
    half = int(told[1]) // 2
    assert half > 12
    power = pair_power(half, half, scene.view(seen), 4.0, 1e-3)
    assert power == pytest.approx(float(told[2]), abs=0.01)
    assert power >= 0.8


def test_where_nothing_helps_it_says_so(honest):
    held = honest.subject.canaries
    scene = Scene(honest.subject, replace(held, directions=held.directions[:, :40]))
    assert "all there is room for" in way_out(scene, scene.look(honest.exposure))


# --- the plan -------------------------------------------------------------------------------------


def test_scores_of_a_known_leak_are_bounded_by_the_plans_own_bound():
    view = default_view()
    plan = CanaryPlan.for_run(200, view, 1e-5)
    coins = np.random.default_rng(2).random(200) < 0.5
    audit = audit_epsilon(plan, coins * 1.0, coins, claimed_epsilon=8.0)
    assert audit.correct == plan.guesses
    assert audit.certified == audit.f_dp_bound == audit.largest_bound > 8.0
    assert audit.one_run_bound < audit.f_dp_bound
