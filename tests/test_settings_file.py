"""YAML without surprises: keys stand once, texts are utf-8, and nothing runs."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from securefed.errors import ConfigurationError
from securefed.settings_file import dotted, read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "settings.yaml"


# PyYAML writes such a text without quotes, because it would itself read it as text.
_texts = st.text(max_size=8).filter(lambda text: not re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", text))
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner),
    max_leaves=8,
)


@given(values=st.dictionaries(_texts, _values, max_size=4))
@settings(max_examples=60, deadline=None)
def test_what_yaml_writes_is_read_back(
    values: dict[str, object], tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.mktemp("yaml") / "a.yaml"
    path.write_text(yaml.safe_dump(values))
    assert read(path) == values


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("privacy:\n  epsilon: 1\nseed: 1\nprivacy:\n  delta: 1.0e-6\n", "privacy", 4),
        ("privacy:\n  epsilon: 1\n  epsilon: 100\n", "epsilon", 3),
        ("privacy: {epsilon: 1, epsilon: 1}\n", "epsilon", 1),
        ('seed: 1\n"seed": 2\n', "seed", 2),
    ],
)
def test_a_key_given_twice_is_refused_not_overridden(text: str, key: str, line: int, path: Path):
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=rf"key {key} stands there twice \(line {line}\)"):
        read(path)


def test_equal_keys_of_different_sections_and_merged_defaults_are_fine(path: Path):
    path.write_text("base: &b\n  a: 1\n  c: 1\none:\n  <<: *b\n  a: 2\ntwo:\n  a: 3\n")
    assert read(path) == {"base": {"a": 1, "c": 1}, "one": {"a": 2, "c": 1}, "two": {"a": 3}}


@pytest.mark.parametrize(
    "content",
    [
        b"a: [1",
        b"a:\n\tb: 1\n",
        b"\xff\xfe\xff",
        b'a: "\0"',
        b"[1]: 2",
        b"a: 2020-13-45",
        b"a: *nowhere",
        b"a: " + b"[" * 3000,
        b"a: 1\n---\nb: 2\n",
    ],
)
def test_what_is_no_yaml_is_refused_with_the_file_and_a_hint(content: bytes, path: Path):
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="is not valid YAML") as refused:
        read(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.hint


def test_a_tag_that_names_python_runs_nothing(path: Path, tmp_path: Path):
    path.write_text(f'a: !!python/object/apply:os.mkdir ["{tmp_path / "made"}"]\n')
    with pytest.raises(ConfigurationError, match="could not determine a constructor"):
        read(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("text", ["- 1\n", "text\n", "3\n"])
def test_a_file_without_keys_is_refused(text: str, path: Path):
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="must hold keys and values, got") as refused:
        read(path)
    assert refused.value.hint


def test_a_missing_file_and_a_folder_are_refused(path: Path, tmp_path: Path):
    for wrong in (path, tmp_path):
        with pytest.raises(ConfigurationError, match=f"cannot read {wrong}") as refused:
            read(wrong)
        assert "configs/default.yaml" in str(refused.value.hint)


def test_texts_are_utf8_wherever_it_runs(path: Path):
    path.write_bytes("a: Universitätsklinikum\n".encode())
    assert read(path) == {"a": "Universitätsklinikum"}


@pytest.mark.parametrize(
    ("text", "value"), [("1e-5", 1e-5), ("2E3", 2000.0), ("1.0e-05", 1e-5), ("'1e-5'", "1e-5")]
)
def test_a_number_with_an_exponent_is_a_number(path: Path, text: str, value: object) -> None:
    path.write_text(f"privacy: {{delta: {text}}}\n")
    assert read(path) == {"privacy": {"delta": value}}


def test_an_exponent_without_a_point_is_a_number_in_every_file(path: Path):
    path.write_text("at_most: 1e-3\ndelta: 1E-5\n")
    assert read(path, "policy", "policies/default.yaml") == {"at_most": 1e-3, "delta": 1e-5}


def test_the_message_says_what_the_file_was_meant_to_be(path: Path):
    path.write_text("- 1\n")
    with pytest.raises(ConfigurationError, match=r"the policy .* must hold keys") as refused:
        read(path, "policy", "policies/default.yaml")
    assert refused.value.hint == "policies/default.yaml shows how every key is written"


def test_a_file_without_an_end_is_refused():
    with pytest.raises(ConfigurationError, match="larger"):
        read(Path("/dev/zero"))


def test_nested_and_dotted_keys_become_one_level_in_order():
    assert dotted({"b": {"c": 1, "d": {}}, "a": 2, "b.e": 3}) == {"b.c": 1, "a": 2, "b.e": 3}


@pytest.mark.parametrize(
    ("values", "message"),
    [({"a": {"b": 1}, "a.b": 2}, "a.b is given twice"), ({"a": {1: 2}}, "got 1")],
)
def test_a_key_that_is_given_twice_or_is_no_text_is_refused(values: dict[str, object], message):
    with pytest.raises(ConfigurationError, match=message):
        dotted(values)
