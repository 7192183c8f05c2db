"""The sabotage suite: each fault is put into the mechanism of a small run, and its audit must fail.

Runs are real: hospitals, ledgers, recordings, and the audit that reads them. The honest run goes
through the same tests, which raise a false alarm once in some 500 runs; noise is seeded, so that
this one never does.
"""

from pathlib import Path
from typing import Any

import pytest

from attacks.direct_tests import NAME, blind, residuals
from attacks.direct_tests.attack import LEDGER
from attacks.direct_tests.controls import controls
from attacks.direct_tests.family import FAMILY
from attacks.family import Case
from attacks.result import Effort
from attacks.verdicts import Judgement, judge
from securefed.auditing.audit import audit
from securefed.auditing.exposures import exposures_of
from securefed.auditing.policy import read_policy
from securefed.auditing.subject import subject_of
from securefed.exposure import Observer
from securefed.run_directory import Run
from securefed.verdict import Verdict
from tests.sabotage import (
    ROUNDS,
    Fault,
    drawn_twice_as_often,
    honest,
    no_noise_in_round,
    noise_of_one_sign,
    noise_times,
    one_hospital_without_its_share,
    patients_not_clipped,
    run_with,
    second_rounds_left_out_of_the_ledger,
    the_same_noise_every_round,
)


def judged(run: Run, *observers: Observer) -> tuple[Judgement, ...]:
    """The lines of the direct tests under the default policy."""
    case = Case.of(subject_of(run), exposures_of(run, observers), Effort.QUICK)
    evidence = FAMILY.prepare(case, ignore) if FAMILY.prepare else None
    assert FAMILY.attack
    results = [FAMILY.attack(case, e, ignore, evidence) for e in case.exposures.values()]
    findings = [finding for result in results for finding in result.findings]
    lines = judge(findings, CONTROLS, read_policy()).judgements
    return tuple(line for line in lines if line.attack == NAME)


def failed(run: Run, *observers: Observer) -> set[tuple[Observer | None, str]]:
    """Observer and method of each direct test that fails."""
    lines = judged(run, *observers)
    return {(line.observer, line.method) for line in lines if line.verdict is Verdict.FAIL}


def ignore(share: float) -> None:
    """Progress that nobody watches."""


CONTROLS = controls(0, ignore).controls


def test_an_honest_run_passes_every_test(tmp_path: Path) -> None:
    file = audit(run_with(honest, tmp_path / "run"), effort="quick", attacks=(NAME,))
    lines = [line for line in file.judgements if line.attack == NAME and line.value is not None]
    assert {line.verdict for line in lines} == {Verdict.PASS}
    by_server = {line.method for line in lines if line.observer == "server"}
    assert by_server == {*residuals.METHODS, *blind.METHODS, LEDGER}
    assert all(control.met for control in file.controls)
    (clipping,) = (
        line for line in lines if (line.observer, line.method) == ("server", residuals.CLIPPING)
    )
    assert "% of patients' gradients are longer than the norm" in clipping.reason
    (bound,) = (line for line in lines if line.of_epsilon and line.observer == "server")
    assert bound.value is not None
    assert bound.threshold is not None
    assert 0.8 * bound.threshold < bound.value < bound.threshold


slow = pytest.mark.slow  # the kind of fault is seen in another run, too
FAULTS = [
    pytest.param(
        noise_times(0.0), {residuals.NOISE, residuals.ALL, blind.NOISE}, id="no noise", marks=slow
    ),
    pytest.param(noise_times(0.5), {residuals.NOISE, residuals.ALL, blind.NOISE}, id="half of it"),
    pytest.param(noise_times(0.9), {residuals.NOISE}, id="nine tenths of it", marks=slow),
    pytest.param(
        noise_of_one_sign, {residuals.MEAN, residuals.NOISE}, id="noise of one sign", marks=slow
    ),
    pytest.param(
        the_same_noise_every_round,
        {residuals.CONSECUTIVE, residuals.REPEATS, residuals.MEAN, blind.NOISE},
        id="the same noise every round",
        marks=slow,
    ),
    pytest.param(
        no_noise_in_round(ROUNDS),
        {residuals.WORST, blind.WORST},
        id="no noise in the last round",
    ),
    pytest.param(
        second_rounds_left_out_of_the_ledger,
        {LEDGER},
        id="rounds without a reservation",
        marks=slow,
    ),
]


@pytest.mark.parametrize(("fault", "by"), FAULTS)
def test_a_broken_mechanism_fails_the_run(tmp_path: Path, fault: Fault, by: set[str]) -> None:
    run = run_with(fault, tmp_path / "run")
    assert {("server", method) for method in by} <= failed(run, "server")


def test_patients_who_are_drawn_twice_as_often_fail_the_run(tmp_path: Path) -> None:
    """Of 12 of 24 a round in place of 6: what patients give partly cancels, and few show little."""
    run = run_with(drawn_twice_as_often, tmp_path / "run", training={"batch_size": 12})
    assert ("server", residuals.DOSE) in failed(run, "server")


@pytest.mark.slow
def test_stress_records_beside_canaries_show_that_nothing_is_clipped(tmp_path: Path) -> None:
    """At a clipping norm that hardly a patient's gradient reaches: nothing else would show it."""
    # Three stress records, each drawn in every second round: which they are is chance.
    run = run_with(
        patients_not_clipped,
        tmp_path / "run",
        canaries={"count": 20},
        data={"phantom": {"patients": 90, "test_patients": 4}},
        training={"batch_size": 45},
        federation={"rounds": 30},
        privacy={"clip_norm": 4.0},
    )
    lines = {line.method: line for line in judged(run, "server")}
    assert lines[residuals.CLIPPING].verdict is Verdict.FAIL
    told = lines[residuals.CLIPPING].reason
    assert "% of patients' gradients are longer than the norm; canaries, or an" in told


@pytest.mark.slow
def test_patients_who_are_not_clipped_fail_a_run_whose_norm_is_small(tmp_path: Path) -> None:
    run = run_with(patients_not_clipped, tmp_path / "run", privacy={"clip_norm": 0.2})
    assert ("server", residuals.CLIPPING) in failed(run, "server")


SHARED = {
    "secure_aggregation": {"enabled": True},
    "privacy": {"placement": "distributed", "colluding": 0},
}


@pytest.mark.parametrize("fault", [honest, one_hospital_without_its_share])
def test_a_hospital_that_adds_no_share_of_the_noise_is_noticed(
    tmp_path: Path, fault: Fault
) -> None:
    """In the opened sum, behind masks, with the patients known and unknown."""
    found = failed(run_with(fault, tmp_path / "run", **SHARED), "server", "peer", "coalition")
    of_sum = {method for observer, method in found if observer == "server"}
    if fault is honest:
        assert not found
    else:
        assert {residuals.NOISE, blind.NOISE} <= of_sum
        assert ("coalition", residuals.NOISE) in found


@pytest.mark.slow
def test_a_masked_sum_shows_half_the_noise_to_the_server_and_to_a_peer_its_own(
    tmp_path: Path,
) -> None:
    masked = {"secure_aggregation": {"enabled": True}}
    found = failed(run_with(noise_times(0.5), tmp_path / "run", **masked), "server", "peer")
    for observer in ("server", "peer"):
        assert {(observer, residuals.NOISE), (observer, blind.NOISE)} <= found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sections", "left_out"),
    [
        ({"training": {"local_steps": 4}}, "4 local steps a round"),
        (
            {"training": {"local_steps": 4}, "federation": {"strategy": "fedprox"}},
            "4 local steps a round",
        ),
        ({"federation": {"shared": "classifier"}}, "fusion stays in the hospital"),
        ({"privacy": {"unit": "image"}}, ""),
        ({"canaries": {"count": 100}}, ""),
        ({"federation": {"clients_per_round": 2}}, ""),
    ],
)
def test_honest_runs_of_other_kinds_raise_no_alarm_and_say_what_is_not_tested(
    tmp_path: Path, sections: dict[str, Any], left_out: str
) -> None:
    lines = judged(run_with(honest, tmp_path / "run", **sections), "server")
    tried = {line.method for line in lines if line.verdict is Verdict.PASS}
    assert {line.verdict for line in lines} <= {Verdict.PASS, None}
    assert {blind.NOISE, blind.WORST, LEDGER} <= tried
    assert (residuals.DOSE in tried) == (not left_out)
    reasons = [line.reason for line in lines if line.method == residuals.DOSE]
    assert all(left_out in reason for reason in reasons)
