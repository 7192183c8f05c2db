"""Who sees what: the sentences follow the configuration, the hospitals and the placement."""

import pytest

from securefed.reporting.facts import Sight
from securefed.reporting.sights import Scored, sights


def seen(
    configuration: str, smallest_sum: int = 4, placement: str | None = "local"
) -> dict[str, Sight]:
    where = placement if "dp" in configuration else None
    epsilon = "epsilon 8.000" if "dp" in configuration else ""
    declared = "dp" in configuration
    found = sights(configuration, smallest_sum, where, 1, epsilon, declared=declared, scored=None)
    return {sight.observer: sight for sight in found}


@pytest.mark.parametrize("configuration", ["plain", "dp", "secure", "dp+secure"])
def test_the_server_tells_hospitals_apart_exactly_without_masks(configuration: str) -> None:
    assert seen(configuration)["server"].exposed == ("secure" not in configuration)


@pytest.mark.parametrize("configuration", ["plain", "dp", "secure", "dp+secure"])
def test_two_hospitals_see_each_other_in_every_configuration(configuration: str) -> None:
    assert seen(configuration, smallest_sum=2)["peer"].exposed
    assert not seen(configuration, smallest_sum=3)["peer"].exposed


@pytest.mark.parametrize("configuration", ["plain", "secure"])
def test_without_noise_nothing_bounds_any_observer(configuration: str) -> None:
    assert all("nothing bounds" in sight.bound for sight in seen(configuration).values())


@pytest.mark.parametrize("placement", ["local", "distributed"])
@pytest.mark.parametrize("configuration", ["plain", "dp", "secure", "dp+secure"])
def test_all_but_one_learn_the_last_ones_counts_in_every_configuration(
    configuration: str, placement: str
) -> None:
    coalition = seen(configuration, placement=placement)["coalition"]
    noised = "noised " if "dp" in configuration else ""
    assert f"its {noised}number of patients and its held-out counts" in coalition.sees


@pytest.mark.parametrize("configuration", ["dp", "dp+secure"])
def test_noised_scores_are_bounded_with_all_noise_and_for_a_coalition_with_the_last_ones(
    configuration: str,
) -> None:
    scored = Scored("epsilon 2.000", "epsilon 3.700")
    found = sights(configuration, 4, "local", 1, "epsilon 8.000", declared=True, scored=scored)
    server, _, coalition, _ = found
    assert "noised" in server.sees.partition("number of patients")[2]
    assert server.bound.endswith("epsilon 8.000; for held-out patients epsilon 2.000")
    assert "once its held-out counts with its own noise" in coalition.sees
    assert coalition.bound.endswith("for held-out patients epsilon 3.700")


def test_shared_noise_does_not_bound_a_coalition_of_all_but_one() -> None:
    coalition = seen("dp+secure", placement="distributed")["coalition"]
    assert "share of the noise" in coalition.sees
    assert "not for all but one" in coalition.bound
    assert "epsilon 8.000" in seen("dp+secure")["coalition"].bound


@pytest.mark.parametrize("configuration", ["dp", "dp+secure"])
def test_exact_held_out_counts_do_not_stand_beside_an_epsilon_that_is_not_theirs(
    configuration: str,
) -> None:
    for observer in ("server", "coalition"):
        sight = seen(configuration)[observer]
        assert "held-out counts" in sight.sees
        assert sight.bound.endswith("held-out counts are exact, and nothing bounds them")
    for observer in ("peer", "outsider"):
        assert "held-out" not in seen(configuration)[observer].bound
