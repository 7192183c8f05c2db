"""The error tree: drawn in the docstring, told apart by exit code, with a way out."""

import inspect
import re

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


def test_a_hint_is_given_by_name_only():
    with pytest.raises(TypeError):
        SecureFedError("message", "hint")  # type: ignore[call-arg]  # what is refused
