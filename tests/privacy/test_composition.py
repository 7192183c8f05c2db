"""The mean of a privacy loss, on which a grid is shifted, against a sum over the noise itself."""

import math

import numpy as np
import pytest
from opacus.accountants.analysis.prv import TruncatedPrivacyRandomVariable

from securefed.privacy import composition
from securefed.privacy.composition import QuickPRV, _QuickTruncated


def mean_over_the_noise(rate: float, sigma: float) -> float:
    """E[log of how much likelier the sum is with the patient], by a fine sum over the sum."""
    x = np.linspace(-12 * sigma, 1 + 12 * sigma, 2_000_001)
    with_patient = np.exp(-((x - 1) ** 2) / (2 * sigma**2))
    density = (1 - rate) * np.exp(-(x**2) / (2 * sigma**2)) + rate * with_patient
    loss = np.log1p(rate * np.expm1((2 * x - 1) / (2 * sigma**2)))
    return float((loss * density).sum() * (x[1] - x[0]) / (sigma * math.sqrt(2 * math.pi)))


@pytest.mark.parametrize(
    ("rate", "sigma"),
    [(0.3322, 1.9785), (0.3322, 1.0), (0.01, 1.0), (0.9, 2.0), (0.02, 50.0), (0.001, 0.8)],
)
def test_the_mean_is_that_of_the_noise(rate: float, sigma: float) -> None:
    assert composition._mean(rate, sigma) == pytest.approx(
        mean_over_the_noise(rate, sigma), rel=1e-9, abs=1e-11
    )


@pytest.mark.parametrize(("rate", "sigma"), [(0.5, 0.2), (0.3, 0.5), (0.1, 0.1)])
def test_little_noise_is_integrated_as_opacus_does(
    rate: float, sigma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    mean = TruncatedPrivacyRandomVariable.mean

    def counting(self: object) -> float:
        asked.append(1.0)
        return float(mean(self))

    monkeypatch.setattr(TruncatedPrivacyRandomVariable, "mean", counting)
    composition._mean.cache_clear()
    assert composition._mean(rate, sigma) == pytest.approx(
        mean_over_the_noise(rate, sigma), rel=1e-6
    )
    assert asked


def test_a_loss_that_is_cut_off_has_a_mean_of_its_own() -> None:
    loss = QuickPRV(0.5, 1.0)
    low, high = loss.ends()
    whole, cut = _QuickTruncated(loss, low - 1, high + 1), _QuickTruncated(loss, low / 2, high / 2)
    assert whole.mean() == composition._mean(0.5, 1.0)
    assert cut.mean() != pytest.approx(whole.mean(), rel=1e-6)
