"""A family is a folder, a line in the list, and what policies say: the frame names none."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from attacks.families import FAMILIES, family
from attacks.family import Case, Family
from attacks.findings import Check, Control, Finding, LowerBound
from attacks.policy import Policy
from attacks.result import AttackResult, Effort, Progress
from attacks.statistics.intervals import Proportion
from attacks.suite import Done, conclude, steps
from securefed.auditing.policy import read_policy
from securefed.auditing.record import audit_lines
from securefed.exposure import Exposure, Observer, RoundView
from securefed.record.audit import AuditFile
from securefed.verdict import Verdict

ROOT = Path(__file__).resolve().parents[2]
FRAME = [*(ROOT / "attacks").glob("*.py"), *(ROOT / "securefed" / "auditing").glob("*.py")]


# ---- the list ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_in_the_list_goes_by_that_name(name: str):
    assert family(name).name == name


def test_the_list_loads_no_family_and_no_torch():
    folders = {path.split(".")[1] for path in FAMILIES.values()}
    program = (
        "import sys; import attacks.families, attacks.policy\n"
        "own = {m.split('.')[1] for m in sys.modules if m.startswith('attacks.')}\n"
        f"print(sorted(own & {folders}),\n"
        "      'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[] False"


def code_of(path: Path) -> str:
    """The source without docstrings and comments, which may give examples."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def test_the_frame_names_no_family_and_imports_none():
    """But for the list, and for the client that auditing hands to the malicious server."""
    words = "|".join(FAMILIES).replace(" ", "[ _]?")
    folders = "|".join(path.rsplit(".", 1)[0] for path in FAMILIES.values())
    named = {
        path.relative_to(ROOT).as_posix()
        for path in FRAME
        if re.search(rf"\b({words})\b|{folders}", code_of(path), re.IGNORECASE)
    }
    assert named == {"attacks/families.py", "securefed/auditing/malicious_client.py"}


def test_folders_of_attacks_import_each_other_in_no_circle():
    order: dict[str, set[str]] = {}
    for path in (ROOT / "attacks").glob("*/*.py"):
        names = re.findall(r"^from attacks\.(\w+)\.", path.read_text(), re.MULTILINE)
        folders = {name for name in names if (ROOT / "attacks" / name).is_dir()}
        order.setdefault(path.parent.name, set()).update(folders - {path.parent.name})
    assert set(graphlib.TopologicalSorter(order).static_order()) >= {"head", "malicious_server"}


# ---- another family, whose folder is this module -----------------------------------------------

NAME = "handwriting"


def _controls(case: Case, progress: Progress) -> AttackResult:
    progress(1.0)
    return AttackResult(
        controls=(Control(NAME, "one writer", "share", 0.99), Control(NAME, "a coin", "share", 0)),
        checks=(Check(NAME, "a forged letter", "peer", True, True, "Refused"),),
    )


def _attack(case: Case, exposure: Exposure, progress: Progress, letters: int) -> AttackResult:
    observer: Observer = exposure.observer
    if observer == "outsider":
        why = "an outsider gets no letters"
        absent = Finding(NAME, "ink", "share", observer, "as configured", None, why, applies=False)
        return AttackResult(findings=(absent,))
    bound = LowerBound(
        value=3.0,
        confidence=0.95,
        claim=4.0,
        power=0.9,
        breach="a torn page",
        least_visible=1.0,
        if_refuted="the pen is broken",
    )
    return AttackResult(
        findings=(
            Finding(NAME, "ink", "share", observer, "as configured", Proportion(1, letters)),
            Finding(NAME, "ink", "pages", observer, "as configured", bound),
        ),
        details={"letters": letters},
    )


FAMILY = Family(
    name=NAME,
    controls=_controls,
    prepare=lambda case, progress: 400,
    attack=_attack,
)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, NAME, __name__)


def policy(at_most: float = 0.1) -> Policy:
    """The default policy, with what it says of the new family alone."""
    gate: dict[str, Any] = {"attack": NAME, "metric": "share", "reason": "a test"}
    content = read_policy().model_dump(by_alias=True)
    return Policy.model_validate(
        content
        | {
            "thresholds": [gate | {"scene": "as configured", "at_most": at_most}],
            "gates": [
                gate | {"control": "one writer", "kind": "positive", "at_least": 0.9},
                gate | {"control": "a coin", "kind": "null", "at_most": 0.1},
            ],
            NAME: {"minimum_power": 0.8, "reason": "a test"},
        }
    )


def exposure(observer: Observer) -> Exposure:
    shared = np.zeros(3, np.float32)
    views = () if observer == "outsider" else (RoundView(1, shared, {}, {}, shared, ("a",)),)
    return Exposure(observer, (), "secure", views, shared)


def audited(judge_by: Policy) -> AuditFile:
    """Suite, verdict and record of the new family alone."""
    observers: tuple[Observer, ...] = ("server", "outsider")
    subject: Any = SimpleNamespace(hospitals=(), training=None, seed=1)
    case = Case.of(subject, {name: exposure(name) for name in observers}, Effort.QUICK)
    done = [
        Done(step, step.work(lambda share: None)) for step in steps(case, ("handwriting", "none"))
    ]
    lines = audit_lines(done, conclude(done, judge_by), judge_by)
    return AuditFile(run="r", configuration="secure", effort="quick", seed=1, **lines)


@pytest.mark.usefixtures("listed")
def test_another_family_is_attacked_judged_and_written():
    audit = audited(policy())
    assert audit.verdict is Verdict.PASS
    assert [(line.observer, line.metric, line.verdict) for line in audit.judgements] == [
        ("server", "share", Verdict.PASS),
        ("server", "pages", Verdict.PASS),
        ("outsider", "share", None),
        ("peer", "", Verdict.PASS),
    ]
    assert {control.control for control in audit.controls} == {"one writer", "a coin"}
    assert all(control.met for control in audit.controls)
    assert audit.details == {NAME: {"server": {"letters": 400}}}
    assert audit.families == (NAME,)
    read = msgspec.json.decode(audit.encode(), type=AuditFile)
    assert msgspec.structs.replace(read, sha256="") == audit


@pytest.mark.usefixtures("listed")
def test_the_policy_decides_about_another_family_too():
    assert audited(policy(at_most=0.0001)).verdict is Verdict.INCONCLUSIVE


def test_a_policy_cannot_speak_of_a_family_that_is_not_listed():
    with pytest.raises(ValueError, match="there is no attack family 'handwriting'"):
        policy()


# ---- what families share -----------------------------------------------------------------------


def case_of(**views: RoundView) -> Case:
    shared = np.zeros(3, np.float32)
    exposures: dict[Any, Exposure] = {
        name: Exposure(name, (), "dp", (view,), shared)  # type: ignore[arg-type]
        for name, view in views.items()
    }
    subject: Any = SimpleNamespace(hospitals=(), training=None, seed=1)
    return Case.of(subject, exposures, Effort.QUICK)


def test_the_worst_case_goes_by_the_name_of_who_is_nearest_to_an_update():
    vector = np.zeros(3, np.float32)
    nothing = RoundView(1, vector, {}, {}, None, ())
    mean = RoundView(1, vector, {}, {}, vector, ("a",))
    update = RoundView(1, vector, {"a": vector}, {}, None, ())
    assert case_of(server=mean, peer=nothing, coalition=update).closest == "coalition"
    assert case_of(peer=nothing, server=mean).closest == "server"


def test_a_coalition_has_nothing_to_add_to_a_server_that_sees_updates():
    vector = np.zeros(3, np.float32)
    update = RoundView(1, vector, {"a": vector}, {}, None, ())
    mean = RoundView(1, vector, {}, {}, vector, ("a",))
    both = case_of(server=update, coalition=update)
    assert "see server" in both.covered("coalition")
    assert both.covered("server") == ""
    assert case_of(server=mean, coalition=update).covered("coalition") == ""
