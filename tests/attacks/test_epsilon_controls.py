"""The kept simulations are those of this code, and say what the policies ask of the controls."""

import json
import math

import numpy as np
import pytest

from attacks.epsilon import controls as of_family
from attacks.epsilon import simulations
from attacks.epsilon.controls import controls
from attacks.epsilon.simulations import COUNT, KEPT, OFTEN, TWICE, digest, parameters, simulated
from attacks.errors import InvalidScores
from attacks.verdicts import gate_complaint
from securefed.auditing.policy import read_policy

KEPT_FIGURES = json.loads(KEPT.read_text())


def test_the_kept_figures_are_of_this_code_and_these_parameters() -> None:
    again = "make them again: python -m attacks.epsilon.simulations"
    assert KEPT_FIGURES["digest"] == digest(), again
    assert KEPT_FIGURES["parameters"] == parameters(), again
    assert KEPT_FIGURES["critical_counts"] == simulations.critical_counts(), again


@pytest.mark.parametrize("name", list(KEPT_FIGURES["figures"]))
def test_some_simulations_made_again_give_the_kept_figures(name: str) -> None:
    numbers = range(COUNT - 3, COUNT)
    kept = KEPT_FIGURES["figures"][name]
    for figure, values in simulated(name, numbers).items():
        np.testing.assert_allclose(values, kept[figure][numbers.start :], rtol=1e-4, atol=1e-9)
        assert len(kept[figure]) == COUNT


def test_the_digest_sees_a_changed_constant_and_neither_comment_nor_import(
    monkeypatch, tmp_path
) -> None:
    module = tmp_path / "bounds.py"
    monkeypatch.setattr(simulations, "MODULES", (str(module.with_suffix("")),))
    seen = []
    for text in ('"""One."""\nX = 1\n', '"""Two."""\nimport y\nX = 1  # why\n', "X = 2\n"):
        module.write_text(text)
        seen.append(digest())
    assert seen[0] == seen[1] != seen[2]


def test_the_controls_meet_their_gates_and_every_one_has_a_gate() -> None:
    found = controls().controls
    gates = [gate for gate in read_policy().gates if gate.attack == "epsilon"]
    assert not [complaint for gate in gates if (complaint := gate_complaint(gate, found))]
    assert {(gate.control, gate.metric) for gate in gates} == {
        (control.control, control.metric) for control in found
    }


def test_no_bound_is_over_the_truth_more_often_than_its_error_and_none_is_vacuous() -> None:
    shares = {c.control: c.value for c in controls().controls if c.metric == of_family.ABOVE}
    errors = {"true": 0.05, "gauss": 0.01, "noise": 1e-4}
    for name, share in shares.items():
        error = next(value for start, value in errors.items() if name.startswith(start))
        # Three standard errors of a share of 500: one false alarm in 700.
        assert share <= error + 3 * math.sqrt(error / COUNT)
    details = controls().details
    assert 0.5 < details["median bound at true epsilon 2"] < 2
    assert 2.5 < details["median bound at true epsilon 8"] < 8
    assert np.median(KEPT_FIGURES["figures"]["true epsilon 8"]["pair"]) > 4.5


def test_the_factor_of_patients_is_unbiased_and_surprises_no_more_often_than_it_says() -> None:
    often, twice = (KEPT_FIGURES["figures"][name] for name in (OFTEN, TWICE))
    assert np.mean(often["factor"]) == pytest.approx(1.0, abs=0.01)
    assert np.mean(twice["factor"]) == pytest.approx(2.0, abs=0.02)
    # -log10 of a p-value is over 1 one time in ten at most; the bound is not sharp.
    assert 0.005 < np.mean(np.array(often["surprise"]) > 1) < 0.1


def test_figures_of_other_simulations_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(of_family, "parameters", lambda: {"steps": 1})
    of_family._kept.cache_clear()
    with pytest.raises(InvalidScores, match=r"controls\.json") as refused:
        controls()
    assert "attacks.epsilon.simulations" in str(refused.value.hint)
    monkeypatch.undo()
    assert controls().controls
