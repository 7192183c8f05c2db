"""audit.json says by which policy it was judged, and no number of it changes in silence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from securefed.auditing.audit import audit
from securefed.evidence import checks
from securefed.record.audit import AuditFile
from securefed.run_directory import Run
from securefed.verdict import Verdict

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def audited(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, with what direct tests and a malicious server found. Nobody writes here."""
    path = Path(shutil.copytree(whole, tmp_path_factory.mktemp("audited") / "run"))
    audit(
        Run.open(path),
        effort="quick",
        observers=["server", "peer"],
        attacks=["direct tests", "malicious server"],
    )
    return path


@pytest.fixture
def spoilt(audited: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(audited, tmp_path / "run"))


def told(run: Path) -> set[str]:
    return {each.told for each in checks.mismatches(Run.open(run)) if each.file == AuditFile.NAME}


def sealed(run: Path, edit: Edit) -> set[str]:
    """What is found of an edit whose author writes the digest anew."""
    content = json.loads((run / AuditFile.NAME).read_text())
    edit(content)
    msgspec.convert(content, AuditFile).write(run)
    return told(run)


def test_an_audit_that_nobody_touched_follows_from_its_policy(audited: Path) -> None:
    file = AuditFile.read(audited)
    assert told(audited) == set()
    assert file.policy.thresholds
    assert file.policy.gates
    assert file.policy.minimum_power["direct tests"] == 0.8
    assert any(line.verdict is Verdict.PASS for line in file.judgements)


def numbers(value: Any, way: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where the numbers of a JSON value stand."""
    if isinstance(value, dict):
        return [place for key in value for place in numbers(value[key], (*way, key))]
    if isinstance(value, list):
        return [place for i, each in enumerate(value) for place in numbers(each, (*way, i))]
    return [way] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_no_number_of_an_audit_changes_in_silence(spoilt: Path) -> None:
    """Every one of them, whatever it says: digest of the whole."""
    file = AuditFile.read(spoilt)
    content = json.loads((spoilt / AuditFile.NAME).read_text())
    places = [place for place in numbers(content) if place != ("schema",)]
    assert len(places) > 100
    for place in places:
        other = json.loads(json.dumps(content))
        spot = other
        for key in place[:-1]:
            spot = spot[key]
        spot[place[-1]] += 1
        changed = msgspec.convert(other, AuditFile)
        assert changed.digest != file.sha256, place
    other["seconds"] += 1
    (spoilt / AuditFile.NAME).write_text(json.dumps(other))
    assert "changed since it was written" in told(spoilt)


def of_surprise(content: dict[str, Any]) -> dict[str, Any]:
    """A line that passed."""
    lines = (
        line
        for line in content["judgements"]
        if line["metric"] == "surprise" and line["verdict"] == "PASS"
    )
    found: dict[str, Any] = next(lines)
    return found


def a_higher_threshold(content: dict[str, Any]) -> None:
    of_surprise(content)["threshold"] = 9.0


def another_policy(content: dict[str, Any]) -> None:
    for limit in content["policy"]["thresholds"]:
        if limit["attack"] == "direct tests":
            limit["at_most"] = 9.0


def a_gate_that_is_off(content: dict[str, Any]) -> None:
    content["controls"][0]["value"] = 1e9


def a_gate_that_is_weaker(content: dict[str, Any]) -> None:
    content["controls"][0]["gate"] = "at most 1000"


def a_control_left_out(content: dict[str, Any]) -> None:
    del content["controls"][0]


def a_line_left_open(content: dict[str, Any]) -> None:
    line = of_surprise(content)
    line["verdict"], line["decides"] = None, False


def a_line_called_invalid(content: dict[str, Any]) -> None:
    of_surprise(content)["verdict"] = "INVALID"
    content["verdict"] = "INVALID"


def all_asked(content: dict[str, Any]) -> None:
    content["asked"] = []


def no_policy(content: dict[str, Any]) -> None:
    content["policy"]["thresholds"] = []


def another_claim(content: dict[str, Any]) -> None:
    for line in content["judgements"]:
        if line["metric"] == "epsilon" and line["threshold"]:
            line["threshold"] += 1


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (a_higher_threshold, "is held against 9.0, the policy has 4.0"),
        (another_policy, "is held against 4.0, the policy has 9.0"),
        (a_gate_that_is_off, "is off its gate and said to meet it"),
        (a_gate_that_is_weaker, "the gate is not the policy's"),
        (a_control_left_out, "no control, where the policy has a gate"),
        (a_line_left_open, "is None, and its interval is under the threshold"),
        (a_line_called_invalid, "is INVALID, and a control is not off its gate"),
        (all_asked, "the policy has a threshold, and no line answers it"),
        (no_policy, "does not say by which thresholds it was judged"),
        (another_claim, "is held against a claim of"),
    ],
)
def test_a_line_that_does_not_follow_from_the_policy_is_named(
    spoilt: Path, edit: Edit, text: str
) -> None:
    found = sealed(spoilt, edit)
    assert any(text in line for line in found), found
