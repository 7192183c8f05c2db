"""What leaves without epsilon follows the configuration, and nothing of it is left out."""

import pytest

from securefed.reporting.facts import Uncovered
from securefed.reporting.outside_epsilon import outside_epsilon

CONFIGURATIONS = ["plain", "dp", "secure", "dp+secure"]


def listed(
    configuration: str, *, declared: bool | None = None, noised: bool = False
) -> list[Uncovered]:
    return outside_epsilon(
        configuration,
        declared="dp" in configuration if declared is None else declared,
        noised_scores=noised,
        scorings=17,
        audited=True,
        baselines=True,
        each_hospital=True,
    )


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_every_configuration_names_what_no_epsilon_covers(configuration: str) -> None:
    told = " ".join(each.what for each in listed(configuration))
    for word in ("held-out patients", "AUC", "attacks", "answers", "took part", "settings"):
        assert word in told
    assert all(each.who and each.form and each.less for each in listed(configuration))


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_masks_make_counts_totals_and_leave_them_exact(configuration: str) -> None:
    (held_out,) = [each for each in listed(configuration) if "scores in steps" in each.what]
    whose = "all hospitals together" if "secure" in configuration else "each hospital"
    assert f"held-out patients of {whose}" in held_out.what
    assert held_out.form == "exact, 17 times"
    assert ("those of the last" in held_out.who) == ("secure" in configuration)


def test_scores_with_an_epsilon_of_their_own_are_not_listed() -> None:
    told = " ".join(each.what for each in listed("dp+secure", noised=True))
    assert "scores in steps" not in told
    assert "ROC" not in told
    assert "AUCs of models of each hospital alone" in told


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_a_number_of_training_patients_is_listed_unless_epsilon_pays_for_it(
    configuration: str,
) -> None:
    def number(declared: bool) -> list[str]:
        every = listed(configuration, declared=declared)
        return [each.form for each in every if "number of training patients" in each.what]

    assert number(declared=True) == []
    assert number(declared=False) == ["exact"]


def test_without_noise_everything_is_listed_first() -> None:
    for configuration in CONFIGURATIONS:
        first = listed(configuration)[0].what
        assert first.startswith("everything that training computes") == ("dp" not in configuration)
