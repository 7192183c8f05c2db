"""The error tree: drawn in the docstring, told apart by exit code, with a way out."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from securefed import errors
from securefed.errors import SecureFedError

CLASSES: dict[str, type[SecureFedError]] = dict(inspect.getmembers(errors, inspect.isclass))


def _drawn() -> list[tuple[int, str, int]]:
    """(indentation, name, exit code) of every line of the tree in the module's docstring."""
    lines = re.findall(r"^( +)(\w+) +exit (\d+)", errors.__doc__ or "", flags=re.MULTILINE)
    return [(len(indent), name, int(code)) for indent, name, code in lines]


def test_the_drawn_tree_is_the_real_one():
    drawn = _drawn()
    assert {name for _, name, _ in drawn} == set(CLASSES)
    parents: list[tuple[int, str]] = []
    for indent, name, code in drawn:
        parents = [(depth, parent) for depth, parent in parents if depth < indent]
        base = CLASSES[parents[-1][1]] if parents else Exception
        assert CLASSES[name].__bases__ == (base,), name
        assert CLASSES[name].exit_code == code, name
        parents.append((indent, name))


@pytest.mark.parametrize("kind", CLASSES.values(), ids=list(CLASSES))
def test_an_error_says_what_is_wrong_and_keeps_the_way_out_apart(kind: type[SecureFedError]):
    error = kind("clip_norm must be positive, got -1.0", hint="set privacy.clip_norm")
    assert str(error) == "clip_norm must be positive, got -1.0"
    assert error.hint == "set privacy.clip_norm"
    assert kind("no way out").hint is None
    with pytest.raises(SecureFedError):
        raise error


ROOT = Path(__file__).resolve().parents[1] / "securefed"
# What people who run a federation read on their terminals. What hospital/client.py and questions.py
# refuse is a lying server's, and there is no way out for it.
TOLD_TO_PEOPLE = sorted(
    {
        *(ROOT / "cli").glob("*.py"),
        *(ROOT / "hospital").glob("*.py"),
        *(ROOT / "engine").rglob("*.py"),
        *(ROOT / "privacy").glob("ledger*.py"),
        *(ROOT / "server" / name for name in ("federation.py", "folder.py", "opening.py")),
        *(ROOT / "wire" / name for name in ("agreement.py", "description.py")),
        ROOT / "settings_file.py",
    }
    - {ROOT / "hospital" / name for name in ("client.py", "questions.py")}
)


def without_a_way_out(path: Path) -> list[str]:
    """Where a file makes errors for people that have no hint."""
    calls = [each for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.Call)]
    return [
        f"{path.name}:{each.lineno}: {ast.unparse(each)[:100]}"
        for each in calls
        if isinstance(each.func, ast.Name)
        and each.func.id in CLASSES
        and "hint" not in {word.arg for word in each.keywords}
    ]


@pytest.mark.parametrize("path", TOLD_TO_PEOPLE, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_federation_s_people_are_refused_says_the_way_out(path: Path):
    assert without_a_way_out(path) == []


def test_an_error_without_a_way_out_is_found(tmp_path: Path):
    (tmp_path / "a.py").write_text("raise RunError('lost')\nraise RunError('lost', hint='look')\n")
    assert without_a_way_out(tmp_path / "a.py") == ["a.py:1: RunError('lost')"]


def test_a_hint_is_given_by_name_only():
    with pytest.raises(TypeError):
        SecureFedError("message", "hint")  # type: ignore[call-arg]  # what is refused
