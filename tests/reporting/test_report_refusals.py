"""What a hospital refuses, and what tests of epsilon say, in words that need no source code."""

import inspect

import pytest

from protocols import errors as protocol_errors
from securefed import errors
from securefed.record.audit import Check, EpsilonTest
from securefed.reporting.meanings import metrics, says
from securefed.reporting.refusals import WORDS, answer, attempts

# A hospital answers with none of these: they end the command of whoever typed it.
OF_COMMANDS = {"SecureFedError", "NothingLearned", "DiskFull", "Interrupted", "PolicyNotMet"}
OF_SERVERS = {"RoundAborted"}


def test_every_error_that_a_hospital_can_answer_with_has_words() -> None:
    names = {
        name
        for module in (errors, protocol_errors)
        for name, each in inspect.getmembers(module, inspect.isclass)
        if issubclass(each, Exception) and each.__module__ == module.__name__
    }
    assert names - OF_COMMANDS - OF_SERVERS == set(WORDS)
    assert not [word for word in WORDS.values() if any(name in word for name in names)]


def test_one_thing_tried_is_one_line_for_both_kinds_of_hospital() -> None:
    checks = [
        Check(name="no parameters (plain)", refused=True, expected=True, detail="RunError"),
        Check(name="a lower threshold (secure)", refused=True, expected=True, detail="Unheard"),
        Check(name="no parameters (secure)", refused=False, expected=True, detail="accepted"),
    ]
    first, second = attempts(checks)
    assert (first.attempt, first.clear, first.masked) == ("no parameters", checks[0], checks[2])
    assert (
        first.says == "in the clear: refused: the request does not fit this run; with masks: "
        "accepted"
    )
    assert (second.attempt, second.clear, second.masked) == ("a lower threshold", None, checks[1])
    assert second.says == "refused: Unheard"  # without words it is still named


def test_a_refusal_that_names_nothing_is_a_refusal() -> None:
    assert answer(Check(name="x", refused=True, expected=True, detail="")) == "refused"


def test_what_gave_the_server_nothing_was_not_refused() -> None:
    noise = Check(name="x", refused=True, expected=True, detail="the sum is noise: cosine 0.10")
    assert answer(noise) == "came to nothing: the sum is noise: cosine 0.10"


def measured(**changed: float | None) -> str:
    figures: dict[str, object] = {
        "observer": "server",
        "canaries": 200,
        "guesses": 80,
        "method": "f_dp",
        "significance": 0.05,
        "delta": 1e-5,
        "correct": 60,
        "certified": 1.2,
        "one_run_bound": 1.0,
        "f_dp_bound": 1.2,
        "point_estimate": 2.0,
        "visible_epsilon": 1.0,
        "largest_bound": 5.0,
        "claimed_epsilon": 8.0,
        "power_halved_noise": 0.8,
    }
    return says(EpsilonTest(**(figures | changed)))  # type: ignore[arg-type]


def test_a_bound_within_the_claim_neither_contradicts_nor_confirms() -> None:
    told = measured()
    assert told.startswith("At least 1.200 was lost, which is within the 8.000 claimed")
    assert "no confirmation" in told
    assert "point estimate" not in told


def test_a_bound_over_the_claim_makes_it_false() -> None:
    assert measured(certified=8.5).startswith("The claim is false: at least 8.500 was lost")


def test_a_point_estimate_over_the_claim_is_explained_where_it_stands() -> None:
    assert "The point estimate 9.500 is over the claim, and contradicts nothing" in measured(
        point_estimate=9.5
    )


@pytest.mark.parametrize(
    ("visible", "words"),
    [
        (None, "could not have seen any epsilon"),
        (9.0, "blind to the claim"),
        (3.0, "what it certifies is smaller"),
        (1.0, "a smaller one may stay hidden"),
    ],
)
def test_the_least_a_test_could_have_seen_is_explained_beside_what_it_certified(
    visible: float | None, words: str
) -> None:
    assert words in measured(visible_epsilon=visible)


def test_a_weak_test_is_called_one() -> None:
    assert "0.200: a weak test" in measured(power_halved_noise=0.2)
    assert "weak" not in measured(power_halved_noise=0.8)


def test_figures_that_occur_are_explained_and_no_others() -> None:
    found = metrics(["auc", "tpr at fpr 0.01", "", "auc", "unheard of"])
    assert list(found) == ["auc", "tpr at fpr 0.01"]
    assert "0.01 is guessing" in found["tpr at fpr 0.01"]
