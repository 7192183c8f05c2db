"""Audits of runs with a label for each slice, or of several classes: attacked are patients."""

from pathlib import Path
from typing import Any

import pytest

from attacks.direct_tests import NAME, residuals
from securefed.auditing.audit import audit
from securefed.auditing.subject import subject_of
from securefed.record.audit import AuditFile
from securefed.verdict import Verdict
from tests.sabotage import Fault, examples_taken_for_patients, honest, run_with
from tests.tiny import changed

SLICES: dict[str, Any] = {"task": {"example": "slice"}}
CLASSES: dict[str, Any] = {"task": {"classes": ("healthy", "tumour", "calcification")}}
BOTH = [pytest.param(SLICES, id="slices"), pytest.param(CLASSES, id="classes")]
IN_THE_CLEAR: dict[str, Any] = {
    "data": {"phantom": {"patients": 34, "test_patients": 30}},
    "training": {"batch_size": 8},
    "privacy": {"dp": False},
    "federation": {"rounds": 3},
}
FAMILIES = ("head leakage", "inversion", "membership", "property inference", "source inference")


def failed(fault: Fault, path: Path, labels: dict[str, Any]) -> set[str]:
    """Methods of the direct tests that fail such a run, of what its server saw."""
    run = run_with(fault, path, **labels)
    file = audit(run, effort="quick", attacks=(NAME,), observers=("server",))
    assert all(control.met for control in file.controls)
    return {line.method for line in file.judgements if line.verdict is Verdict.FAIL}


@pytest.mark.parametrize("labels", BOTH)
def test_direct_tests_know_what_a_patient_gives(tmp_path: Path, labels: dict[str, Any]) -> None:
    assert failed(honest, tmp_path / "honest", labels) == set()


def test_a_run_that_takes_examples_for_patients_is_caught(tmp_path: Path) -> None:
    assert residuals.DOSE in failed(examples_taken_for_patients, tmp_path / "run", SLICES)


@pytest.mark.parametrize("labels", BOTH)
def test_canaries_are_patients_and_certify_no_more_than_is_claimed(
    tmp_path: Path, labels: dict[str, Any]
) -> None:
    run = run_with(honest, tmp_path / "run", **labels, canaries={"count": 40})
    (first, *_) = subject_of(run).hospitals
    assert first.train.patients == 24
    assert (len(first.train) > 24) == (labels is SLICES)
    claim = first.claimed_epsilon
    assert claim is not None
    file = audit(run, effort="quick", attacks=("epsilon",))
    bounds = [each for each in file.findings if each.metric == "epsilon" and each.value is not None]
    assert {each.method for each in bounds} >= {"canaries", "noise"}
    assert all(0 <= (each.value or 0) <= claim for each in bounds)
    assert not [line for line in file.judgements if line.verdict is Verdict.FAIL]


@pytest.fixture(scope="module", params=BOTH)
def in_the_clear(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AuditFile:
    path = tmp_path_factory.mktemp("labels") / "run"
    run = run_with(honest, path, **changed(IN_THE_CLEAR, **request.param))
    return audit(run, effort="quick", attacks=FAMILIES)


def value(file: AuditFile, **asked: str) -> float:
    found = [
        each.value
        for each in file.findings
        if each.value is not None and all(getattr(each, k) == v for k, v in asked.items())
    ]
    assert len(found) == 1, asked
    return found[0]


@pytest.mark.slow
def test_every_family_finds_figures_and_its_controls_hold(in_the_clear: AuditFile) -> None:
    measured = {each.attack for each in in_the_clear.findings if each.value is not None}
    assert measured == set(FAMILIES)
    assert [each.control for each in in_the_clear.controls if not each.met] == []


@pytest.mark.slow
def test_what_must_leak_in_the_clear_does(in_the_clear: AuditFile) -> None:
    server = {"observer": "server"}
    alone = value(in_the_clear, method="row ratio, batch 1", **server)
    assert alone > 0.9, "a patient alone in a batch is known, whatever its labels"
    pooled = value(
        in_the_clear, method="likelihood ratio", attack="membership", metric="auc", **server
    )
    assert pooled > 0.8
    assert value(in_the_clear, attack="source inference", **server) > 0.7


@pytest.mark.slow
def test_what_is_not_measured_says_why(in_the_clear: AuditFile) -> None:
    (sparse,) = (each for each in in_the_clear.findings if each.method.startswith("sparse"))
    assert sparse.value is None
    assert sparse.absent is not None
    assert "several examples" in sparse.absent or "each class" in sparse.absent
    properties = {each.method for each in in_the_clear.findings if each.metric.startswith("told")}
    classes = {"class healthy", "class tumour", "class calcification"}
    assert classes <= properties or "positives" in properties
