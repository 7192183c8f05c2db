"""A temperature from counts: what it finds, when it says that it does not know, what it covers."""

import math

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from securefed.model.calibration import MOST, WIDEST, Calibration, Temperature, alike
from securefed.model.noised_scores import NOISED_COUNTS, NoisedScores, calibration, coarse
from securefed.model.scores import Counts, count_scores, metrics

DEVIATION = 2.3  # patients: four hospitals whose noise costs epsilon 2 of three
Floats = NDArray[np.float64]


def answers(
    patients: int, seed: int, temperature: float = 1.5, shift: float = 0.0
) -> tuple[Floats, NDArray[np.bool_]]:
    """Logits of a model whose right ones are these divided by the temperature and shifted."""
    rng = np.random.default_rng(seed)
    logits = np.clip(rng.normal(0, 4, patients), -7.9, 7.9)
    right = 1 / (1 + np.exp(-(logits / temperature + shift)))
    return logits, rng.random(patients) < right


def counted(logits: Floats, ill: NDArray[np.bool_]) -> Counts:
    return count_scores(torch.from_numpy(logits), torch.from_numpy(ill))


def noised(counts: Counts, seed: int, deviation: float = DEVIATION) -> NoisedScores:
    noise = np.random.default_rng([seed, 1]).normal(0, deviation, NOISED_COUNTS)
    return NoisedScores(coarse(counts) + noise, deviation)


def loss(logits: Floats, ill: NDArray[np.bool_]) -> float:
    return float(np.logaddexp(0, np.where(ill, -logits, logits)).mean())


def fitted(scores: Counts | NoisedScores) -> Calibration:
    found = calibration(scores)
    assert found is not None
    return found


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_without_noise_it_is_maximum_likelihood(temperature: float) -> None:
    logits, ill = answers(20_000, 0, temperature)
    found = fitted(counted(logits, ill)).temperature
    assert found is not None
    candidates = found.value * np.array([0.96, 1.0, 1.04])
    losses = [loss(logits / each, ill) for each in candidates]
    assert losses[1] == min(losses)
    assert found.value == pytest.approx(temperature, rel=0.06)
    assert found.ci95[0] < temperature < found.ci95[1]


@pytest.mark.parametrize("deviation", [0.0, DEVIATION])
def test_the_interval_holds_the_temperature_as_often_as_it_says(deviation: float) -> None:
    """300 draws of 400 patients; of 95 per cent, 90 or less has a chance of 2e-4."""
    covered = told = 0
    for seed in range(300):
        counts = counted(*answers(400, seed))
        found = fitted(noised(counts, seed) if deviation else counts).temperature
        if found is not None:
            told += 1
            covered += found.ci95[0] <= 1.5 <= found.ci95[1]
    assert told > 250
    assert covered / told > 0.9


@pytest.mark.parametrize("shift", [0.0, -0.7])
def test_an_answer_s_interval_holds_the_share_of_positives_also_where_logits_are_shifted(
    shift: float,
) -> None:
    """200 draws of 400 patients, noised; of 95 per cent, 89 or less has a chance of 4e-4."""
    at = np.array([-4.0, -1.0, 0.0, 1.0, 4.0])
    truth = 1 / (1 + np.exp(-(at / 1.5 + shift)))
    held, told = np.zeros(len(at)), 0
    for seed in range(200):
        found = fitted(noised(counted(*answers(400, seed, shift=shift)), seed)).temperature
        if found is not None:
            middle, low, high = found.probabilities(at)
            assert ((low <= middle) & (middle <= high)).all()
            assert middle[2] == 0.5
            held += (low <= truth) & (truth <= high)
            told += 1
    assert told > 150
    assert (held / told > 0.89).all()


@pytest.mark.parametrize("deviation", [0.0, DEVIATION])
def test_the_loss_after_it_is_that_of_patients_who_come_later(deviation: float) -> None:
    """What is measured where it was fitted looks better by as much as is added: 300 draws."""
    later = answers(100_000, 10**6)
    told, plain, true = [], [], []
    for seed in range(300):
        counts = counted(*answers(100, seed))
        found = fitted(noised(counts, seed, 0.5) if deviation else counts)
        if found.temperature is None or found.loss_after is None:
            continue
        told.append(found.loss_after)
        true.append(loss(later[0] / found.temperature.value, later[1]))
        if not deviation:
            plain.append(metrics(counts).loss)
            assert found.loss_before == pytest.approx(plain[-1], abs=1e-12)
    assert len(told) > 250
    # Of 300 means of 100 patients: a standard error of .0025; without the addition .005 too low.
    assert np.mean(told) == pytest.approx(np.mean(true), abs=0.01 if deviation else 0.006)


def test_a_model_that_is_right_shows_the_error_that_chance_gives() -> None:
    found = [fitted(noised(counted(*answers(400, seed, 1.0)), seed)) for seed in range(200)]
    shown = np.mean([each.error_before for each in found])
    assert shown == pytest.approx(np.mean([each.error_by_chance for each in found]), rel=0.15)


def test_wrong_probabilities_are_mended() -> None:
    found = fitted(counted(*answers(2000, 3, 4.0)))
    assert found.error_after is not None
    assert found.loss_after is not None
    assert found.error_before > 0.1 > 3 * found.error_by_chance
    assert found.error_after < 2 * found.error_by_chance
    assert found.loss_after < found.loss_before - 0.1


@pytest.mark.parametrize(
    ("logits", "ill", "why"),
    [
        ([1.0, -2.0], [1, 1], "both labels"),
        ([3.0, -3.0, 2.0, -2.0], [1, 0, 1, 0], "4 held-out patients leave the temperature open"),
        ([3.0, -3.0] * 40, [0, 1] * 40, "80 held-out patients leave the temperature open"),
    ],
    ids=["one label", "told apart without a fault", "the wrong way round"],
)
def test_counts_that_do_not_say_leave_the_network_s_own(
    logits: list[float], ill: list[int], why: str
) -> None:
    found = fitted(counted(np.array(logits), np.array(ill, bool)))
    assert found.temperature is None
    assert why in found.why_not
    assert (found.loss_after, found.error_after) == (None, None)
    assert math.isfinite(found.loss_before + found.error_before + found.error_by_chance)


@pytest.mark.parametrize("seed", range(40))
def test_noise_that_drowns_the_patients_gives_no_temperature_or_one_within_bounds(
    seed: int,
) -> None:
    scores = noised(counted(*answers(20, seed)), seed, 20.0)
    found = calibration(scores)
    if found is None:
        return
    assert found.patients == scores.metrics.patients  # all figures of a run say one number
    assert math.isfinite(found.error_by_chance)
    if found.temperature:
        low, high = found.temperature.ci95
        assert 1 / MOST <= low <= found.temperature.value <= high <= MOST
        assert high <= WIDEST * low * (1 + 1e-9)
    else:
        assert "counted with noise" in found.why_not or "both labels" in found.why_not


def test_nobody_has_no_calibration() -> None:
    assert calibration(counted(np.zeros(0), np.zeros(0, bool))) is None


def test_it_comes_back_from_its_file_and_what_is_no_temperature_does_not() -> None:
    found = fitted(counted(*answers(400, 0)))
    assert found.temperature is not None
    written = msgspec.json.encode(found)
    assert msgspec.json.decode(written, type=Calibration) == found
    assert alike(found, msgspec.structs.replace(found, loss_before=found.loss_before + 1e-12))
    assert not alike(found, msgspec.structs.replace(found, loss_before=found.loss_before + 1e-3))
    assert not alike(found, None)
    assert alike(None, None)
    kept = msgspec.to_builtins(found.temperature)
    for damage in (
        {"ci95": [1.1 * kept["value"], 1.2 * kept["value"]]},
        {"value": 0.0, "ci95": [0.0, 1.2]},
        {"ci95": [0.9, 1e9]},
        {"ci95": [0.9]},
        {"value": None},
        {"slope": -1.0},
        {"shift": 99.0},
        {"covariance": [-0.1, 0.0, 0.1]},
        {"covariance": [0.1, 0.2, 0.1]},
        {"covariance": [1e300, 0.0, 1e300]},
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(kept | damage, Temperature)
    with pytest.raises(ValueError, match="not in its interval"):
        msgspec.structs.replace(found.temperature, value=math.nan)
