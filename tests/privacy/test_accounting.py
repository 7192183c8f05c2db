"""What a history costs, and what a budget buys, against independent computations."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis.prv import Domain, PoissonSubsampledGaussianPRV
from scipy import optimize, stats
from scipy.fft import next_fast_len

from securefed.errors import ConfigurationError, PrivacyError
from securefed.privacy import composition
from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import Event, Guarantee, epsilon, solve_noise_multiplier

DELTA = 1e-5


@pytest.mark.parametrize(
    ("event", "prv", "rdp"),
    [
        (Event(1.0, 0.1, 200), 9.982, 11.016),
        (Event(1.1, 256 / 60_000, 3_510), 1.143, 1.280),
    ],
)
def test_published_cross_checks(event: Event, prv: float, rdp: float) -> None:
    assert round(epsilon([event], DELTA, "prv"), 3) == prv
    assert round(epsilon([event], DELTA, "rdp"), 3) == rdp


@pytest.mark.parametrize("event", [Event(1.0, 0.1, 200), Event(2.0, 1 / 3, 80)])
def test_fewer_grid_orders_do_not_change_opacus_own_figure(event: Event) -> None:
    opacus = PRVAccountant()
    opacus.history = [(event.noise_multiplier, event.sample_rate, event.steps)]
    assert epsilon([event], DELTA) == pytest.approx(opacus.get_epsilon(DELTA), abs=1e-5)


def test_rdp_equals_opacus_where_its_orders_suffice() -> None:
    opacus = RDPAccountant()
    opacus.history = [(1.3, 0.2, 40), (2.0, 0.1, 10)]
    history = [Event(1.3, 0.2, 40), Event(2.0, 0.1, 10)]
    assert epsilon(history, DELTA, "rdp") == pytest.approx(opacus.get_epsilon(DELTA), rel=1e-12)


@pytest.mark.parametrize(("sigma", "rate"), [(1.0, 0.1), (0.989, 1 / 3), (5.0, 0.5), (0.8, 0.05)])
@pytest.mark.parametrize("order", [1.1, 1.5, 1.8, 3.7])
def test_rdp_at_a_fractional_order_is_the_integral_it_stands_for(
    sigma: float, rate: float, order: float
) -> None:
    """Opacus sums a series without a limit on its length, where dp-accounting gives up."""
    x = np.linspace(-40 * sigma, 1 + 40 * sigma, 400_001)
    ratio = np.logaddexp(math.log1p(-rate), math.log(rate) + (2 * x - 1) / (2 * sigma**2))
    mass = np.exp(stats.norm.logpdf(x, scale=sigma) + order * ratio).sum() * (x[1] - x[0])
    exact = math.log(mass) / (order - 1)
    found = composition.rdp_divergence(sigma, rate, (order,))
    assert found == pytest.approx(exact, rel=1e-6, abs=1e-9)


def _gaussian_epsilon(mu: float, delta: float) -> float:
    """Balle & Wang 2018, theorem 8: the exact curve of the Gaussian mechanism."""

    def excess(eps: float) -> float:
        tail = math.exp(eps + stats.norm.logcdf(-mu / 2 - eps / mu))
        return float(stats.norm.cdf(mu / 2 - eps / mu) - tail - delta)

    return float(optimize.brentq(excess, 0, 500, xtol=1e-9)) if excess(0) > 0 else 0.0


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 50])
@pytest.mark.parametrize("delta", [1e-5, 1e-10])
def test_without_subsampling_prv_is_the_exact_gaussian_curve(steps: int, delta: float) -> None:
    exact = _gaussian_epsilon(math.sqrt(steps) / 3.0, delta)
    assert exact <= epsilon([Event(3.0, 1.0, steps)], delta, "prv") <= exact + 0.021
    assert exact <= epsilon([Event(3.0, 1.0, steps)], delta, "rdp")


def test_two_gaussians_compose_as_one() -> None:
    exact = _gaussian_epsilon(math.sqrt(5 / 2.0**2 + 8 / 4.0**2), DELTA)
    composed = epsilon([Event(2.0, 1.0, 5), Event(4.0, 1.0, 8)], DELTA)
    assert exact <= composed <= exact + 0.021


def _loss_distribution(
    sigma: float, rate: float, steps: int, direction: str, mesh: float
) -> tuple[np.ndarray, np.ndarray]:
    """Privacy losses of `steps` subsampled Gaussians and their masses, by plain convolution.

    Losses are rounded to the nearest multiple of `mesh`. Independent of Opacus: the output axis is
    cut into cells and each cell's mass goes to the loss at its middle.
    """
    edges = np.linspace(-14 * sigma, 1 + 14 * sigma, 200_001)
    middle = (edges[1:] + edges[:-1]) / 2
    without = np.diff(stats.norm.cdf(edges, scale=sigma))
    with_unit = (1 - rate) * without + rate * np.diff(stats.norm.cdf(edges, 1, sigma))
    ratio = np.log1p(rate * np.expm1((2 * middle - 1) / (2 * sigma**2)))
    mass, loss = (with_unit, ratio) if direction == "remove" else (without, -ratio)
    index = np.round(loss / mesh).astype(int)
    lowest = index.min()
    one = np.bincount(index - lowest, weights=mass)
    total = np.array([1.0])
    for _ in range(steps):
        total = np.convolve(total, one)
    return (np.arange(len(total)) + steps * lowest) * mesh, total


def _naive_epsilon(sigma: float, rate: float, steps: int, direction: str) -> float:
    losses, masses = _loss_distribution(sigma, rate, steps, direction, mesh=0.004)

    def delta_at(eps: float) -> float:
        above = losses > eps
        return float((masses[above] * -np.expm1(eps - losses[above])).sum())

    return float(optimize.brentq(lambda eps: delta_at(eps) - DELTA, 1e-3, losses[-1]))


@pytest.mark.parametrize(
    ("sigma", "rate", "steps"), [(1.2, 0.2, 6), (2.0, 0.5, 10), (0.8, 0.05, 4)]
)
def test_prv_agrees_with_plain_convolution_and_covers_both_directions(
    sigma: float, rate: float, steps: int
) -> None:
    """Add/remove adjacency: the worse direction counts, and it is the one Opacus composes."""
    remove = _naive_epsilon(sigma, rate, steps, "remove")
    add = _naive_epsilon(sigma, rate, steps, "add")
    bound = epsilon([Event(sigma, rate, steps)], DELTA)
    assert add <= remove
    assert bound == pytest.approx(remove, abs=0.025)
    assert bound >= remove - 0.004  # half a mesh step per composition, averaged


@pytest.mark.parametrize("accountant", ["prv", "rdp"])
def test_edge_cases_are_as_tabled(accountant: Accountant) -> None:
    assert epsilon([], DELTA, accountant) == 0.0
    assert epsilon([Event(1.0, 0.5, 0), Event(0.0, 0.5, 0)], DELTA, accountant) == 0.0
    assert epsilon([Event(0.0, 0.5, 1)], DELTA, accountant) == math.inf
    assert epsilon([Event(1e-200, 0.5, 1)], DELTA, accountant) == math.inf
    assert epsilon([Event(5.0, 0.5, 3), Event(0.0, 1e-9, 1)], DELTA, accountant) == math.inf
    assert epsilon([Event(5.0, 0.5, 3), Event(1e-200, 0.5, 1)], DELTA, accountant) == math.inf
    assert math.isfinite(epsilon([Event(1e6, 1.0, 1)], DELTA, accountant))
    assert math.isfinite(epsilon([Event(0.05, 1.0, 10_000)], DELTA, accountant))


def test_too_large_a_grid_falls_back_to_the_rdp_bound() -> None:
    hopeless = [Event(0.1, 0.5, 1_000)]
    assert epsilon(hopeless, DELTA, "prv") == epsilon(hopeless, DELTA, "rdp") > 1_000


@pytest.mark.parametrize("accountant", ["prv", "rdp"])
def test_equal_events_add_up_and_order_does_not_matter(accountant: Accountant) -> None:
    one, other = Event(2.0, 0.25, 3), Event(3.0, 0.1, 5)
    merged = epsilon([Event(2.0, 0.25, 9), other], DELTA, accountant)
    assert epsilon([one, other, one, one], DELTA, accountant) == merged


def test_eighty_rounds_compose_to_far_less_than_their_sum() -> None:
    """A peer's trap: epsilon per round, added up."""
    single = epsilon([Event(2.0, 1 / 3, 1)], DELTA)
    composed = epsilon([Event(2.0, 1 / 3, 1)] * 80, DELTA)
    assert single < composed < 80 * single / 5


@given(
    sigma=st.floats(0.8, 20),
    rate=st.floats(0.01, 1),
    steps=st.integers(1, 60),
    more=st.integers(1, 60),
)
@settings(max_examples=12, deadline=None)
def test_epsilon_grows_with_steps_and_rate_and_shrinks_with_noise(
    sigma: float, rate: float, steps: int, more: int
) -> None:
    base = epsilon([Event(sigma, rate, steps)], DELTA)
    tolerance = 1e-3
    assert epsilon([Event(sigma, rate, steps + more)], DELTA) >= base - tolerance
    assert epsilon([Event(sigma, min(1.0, rate * 1.2), steps)], DELTA) >= base - tolerance
    assert epsilon([Event(sigma * 1.2, rate, steps)], DELTA) <= base + tolerance


@pytest.mark.parametrize(
    ("target", "rate", "steps"),
    [(8.0, 1 / 3, 80), (2.0, 1 / 3, 80), (0.5, 0.05, 200), (8.0, 1.0, 10), (900.0, 0.3, 80)],
)
@pytest.mark.parametrize("accountant", ["prv", "rdp"])
def test_solved_noise_keeps_the_target_and_wastes_nothing(
    target: float, rate: float, steps: int, accountant: Accountant
) -> None:
    sigma = solve_noise_multiplier(target, DELTA, rate, steps, accountant)
    assert epsilon([Event(sigma, rate, steps)], DELTA, accountant) <= target
    less = round(sigma - 1e-4, 4)
    assert epsilon([Event(less, rate, steps)], DELTA, accountant) > target
    assert sigma == round(sigma, 4)


def test_a_solve_of_many_steps_computes_one_bound_on_the_fine_grid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """10 s of processor time became 2 for these 1e5 steps at q 1e-5: seven such bounds before."""
    as_shipped, fine = composition._prv_upper, []

    def counted(composed: composition.Composed, delta: float, eps_error: float) -> float:
        if eps_error == composition.EPSILON_ERROR:
            fine.append(composed)
        return as_shipped(composed, delta, eps_error)

    monkeypatch.setattr(composition, "_prv_upper", counted)
    assert solve_noise_multiplier(8.0, 1e-6, 1e-5, 100_000) == 0.3184
    quickly_too_wide = [each for each in fine if each[0][0] < 0.3]
    assert len(fine) - len(quickly_too_wide) == 1
    assert epsilon([Event(0.3184, 1e-5, 100_000)], 1e-6) <= 8.0


@pytest.mark.parametrize(
    ("rate", "noise"), [(1e-5, 0.32), (1.0, 7.2), (1 / 3, 1.98), (0.5, 0.3), (1.0, 0.05), (0.9, 40)]
)
def test_the_distribution_function_is_opacus_own_everywhere(rate: float, noise: float) -> None:
    t = np.linspace(-30, 60, 200_001)
    with np.errstate(all="ignore"):
        expected = PoissonSubsampledGaussianPRV(rate, noise).cdf(t)
        found = composition.QuickPRV(rate, noise).cdf(t)
    assert np.abs(found - expected).max() <= 1e-16


@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_a_large_delta_that_makes_epsilon_zero_on_the_way_is_solved_too(rate: float) -> None:
    """With enough noise Renyi accounting then says 0, of which there is no logarithm."""
    assert epsilon([Event(1e4, rate, 4)], 1e-3, "rdp") == 0
    sigma = solve_noise_multiplier(8.0, 1e-3, rate, 4, "rdp")
    assert 7.9 < epsilon([Event(sigma, rate, 4)], 1e-3, "rdp") <= 8.0


def test_more_budget_never_needs_more_noise() -> None:
    sigmas = [solve_noise_multiplier(target, DELTA, 0.2, 40) for target in (1, 4, 8)]
    assert all(larger > smaller for larger, smaller in pairwise(sigmas))


def test_solving_again_each_round_would_break_the_budget() -> None:
    """Opacus' trap: `make_private_with_epsilon` in round two starts as if nothing were spent."""
    per_round = solve_noise_multiplier(4.0, DELTA, 0.25, 5)
    whole_run = solve_noise_multiplier(4.0, DELTA, 0.25, 50)
    assert epsilon([Event(per_round, 0.25, 5)] * 10, DELTA) > 2 * 4.0
    assert epsilon([Event(whole_run, 0.25, 5)] * 10, DELTA) <= 4.0


def test_the_least_noise_is_returned_when_even_that_would_do() -> None:
    assert solve_noise_multiplier(5.0, DELTA, 1e-6, 2) == 0.05


def test_target_below_what_the_accountant_can_show_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"epsilon 0\.005 cannot be reached") as caught:
        solve_noise_multiplier(0.005, DELTA, 0.5, 10)
    assert "fewer rounds" in (caught.value.hint or "")


@pytest.mark.parametrize("target", [0.0, -1.0, math.inf, math.nan])
def test_target_that_is_no_budget_is_refused(target: float) -> None:
    with pytest.raises(ConfigurationError, match="epsilon must be positive and finite"):
        solve_noise_multiplier(target, DELTA, 0.5, 10)


def test_solving_for_no_steps_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="zero steps"):
        solve_noise_multiplier(1.0, DELTA, 0.5, 0)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, 2.0, math.nan])
def test_delta_outside_its_range_is_refused(delta: float) -> None:
    with pytest.raises(ConfigurationError, match="delta must be between 0 and 1"):
        epsilon([Event(1.0, 0.5, 1)], delta)
    with pytest.raises(ConfigurationError, match="delta must be between 0 and 1"):
        solve_noise_multiplier(1.0, delta, 0.5, 1)


def test_unknown_accountant_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="prv or rdp, got 'gdp'"):
        epsilon([Event(1.0, 0.5, 1)], DELTA, "gdp")  # type: ignore[arg-type]


def test_delta_beyond_floating_point_is_refused_with_a_way_out() -> None:
    with pytest.raises(PrivacyError, match="cannot compute epsilon at delta 1e-15") as caught:
        epsilon([Event(1.0, 0.3, 80)], 1e-15)
    assert "rdp" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((-0.1, 0.5, 1), "noise_multiplier must be finite"),
        ((math.nan, 0.5, 1), "noise_multiplier must be finite"),
        ((math.inf, 0.5, 1), "noise_multiplier must be finite"),
        ((1.0, 0.0, 1), "sample_rate must be in"),
        ((1.0, 1.5, 1), "sample_rate must be in"),
        ((1.0, math.nan, 1), "sample_rate must be in"),
        ((1.0, 0.5, -1), "steps must be a whole number"),
        ((1.0, 0.5, 2.5), "steps must be a whole number"),
        ((1.0, 0.5, True), "steps must be a whole number"),
    ],
)
def test_impossible_events_are_refused(fields: tuple, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Event(*fields)


def test_guarantee_is_printed_with_everything_it_depends_on() -> None:
    assert str(Guarantee(7.99914, 1e-5, "patient", "prv")) == (
        "epsilon 8.000 at delta 1e-05 per patient "
        "(add/remove adjacency, poisson sampling, PRV upper bound)"
    )


@pytest.mark.parametrize(("value", "shown"), [(8.0001, "8.001"), (8.0, "8.000"), (math.inf, "inf")])
def test_printed_epsilon_is_never_below_the_computed_one(value: float, shown: str) -> None:
    assert f"epsilon {shown} at" in str(Guarantee(value, 1e-5, "patient", "rdp"))


@pytest.mark.parametrize("event", [Event(20.0, 0.01, 100), Event(1.0, 1 / 3, 80)])
def test_the_tighter_of_two_bounds_that_both_hold_is_returned(event: Event) -> None:
    """PRV adds .01 for its grid, which is most of a small epsilon; RDP has no grid."""
    assert epsilon([event], DELTA, "prv") <= epsilon([event], DELTA, "rdp")


def test_the_grid_has_a_length_that_transforms_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solve of q 1e-5 over 1e5 steps took minutes, by transforms of unlucky lengths."""
    lengths = []
    aligned = Domain.create_aligned

    def counted(low: float, high: float, step: float) -> Domain:
        domain: Domain = aligned(low, high, step)
        lengths.append(domain.size)
        return domain

    monkeypatch.setattr(Domain, "create_aligned", counted)
    for sigma in (0.31, 0.47, 0.83):
        composition.prv_epsilon.__wrapped__(((sigma, 1e-3, 2_000),), DELTA)
    assert len(lengths) == 3
    assert all(length == 2 * next_fast_len(length // 2, real=True) for length in lengths)
