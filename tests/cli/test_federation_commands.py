"""`site`, `keys`, `agreement`: what people type before a federation's first run."""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from securefed.cli.app import cli
from securefed.errors import ConfigurationError

NAMES = ("east", "north", "south")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)], catch_exceptions=False)


def as_json(*arguments: object) -> dict[str, Any]:
    shown = run(*arguments, "--json")
    assert shown.exit_code == 0, shown.output
    value: dict[str, Any] = json.loads(shown.stdout)
    return value


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    for name in NAMES:
        made = run("site", "init", tmp_path / name, "--name", name, "--lifetime-epsilon", 10)
        assert made.exit_code == 0, made.output
        assert f"securefed keys show {tmp_path / name}" in made.stderr
    return tmp_path


def made(folder: Path, name: str = "agreement.yaml", epsilon: float = 4.0) -> dict[str, Any]:
    config = folder / "run.yaml"
    config.write_text(yaml.safe_dump({"privacy": {"epsilon": epsilon}}))
    lines = [run("keys", "show", folder / each).stdout.strip() for each in NAMES]
    chosen = [word for line in lines for word in ("--hospital", line)]
    return as_json(
        "agreement", "make", folder / name, "--name", "trial", "--config", config, *chosen
    )


def test_from_folders_to_an_accepted_agreement(sites: Path) -> None:
    agreement = sites / "agreement.yaml"
    digest = made(sites)["digest"]
    assert digest == hashlib.sha256(agreement.read_bytes()).hexdigest()
    shown = run("agreement", "show", agreement)
    assert "epsilon 4 at delta 1e-05 per patient" in shown.stdout
    assert f"digest: {digest}" in shown.stdout
    assert "hospitals.north" in shown.stdout
    accepted = run("agreement", "accept", sites / "north", agreement, "--digest", digest[:32])
    assert accepted.exit_code == 0, accepted.output
    assert "north takes part in trial" in accepted.stdout
    state = as_json("site", "show", sites / "north")
    assert (state["spent"], state["budget"]) == (0.0, 10.0)
    (only,) = state["runs"]
    assert (only["name"], only["agreement"], only["state"]) == ("trial", digest, "not begun")
    assert "trial, agreement" in run("site", "show", sites / "north").stdout


def test_keys_of_an_agreement_are_those_of_the_sites(sites: Path) -> None:
    made(sites)
    roster = as_json("keys", "roster", sites / "agreement.yaml")["keys"]
    assert roster == {name: as_json("keys", "show", sites / name)["key"] for name in NAMES}
    assert "fingerprint of the roster" in run("keys", "roster", sites / "agreement.yaml").stdout


def test_what_two_agreements_have_otherwise_is_shown(sites: Path) -> None:
    made(sites)
    made(sites, "other.yaml", epsilon=5.0)
    one, other = sites / "agreement.yaml", sites / "other.yaml"
    differ = run("agreement", "diff", one, other)
    assert (differ.exit_code, differ.stdout) == (1, "privacy.epsilon: 4.0 -> 5.0\n")
    same = run("agreement", "diff", one, one)
    assert (same.exit_code, same.stdout) == (0, "the same\n")
    respaced = sites / "respaced.yaml"
    respaced.write_text(one.read_text() + "\n")
    assert run("agreement", "diff", one, respaced).exit_code == 1


def test_rotation_and_revocation_end_an_agreement(sites: Path) -> None:
    digest = made(sites)["digest"]
    agreement = sites / "agreement.yaml"
    roster = as_json("keys", "roster", agreement)["keys"]
    assert run("keys", "rotate", sites / "north", "--yes").exit_code == 0
    with pytest.raises(ConfigurationError, match="does not hold the identity key of north"):
        run("agreement", "accept", sites / "north", agreement, "--digest", digest)
    revoked = run("keys", "revoke", sites / "east", roster["north"], "--reason", "lost")
    assert "takes part in nothing that holds" in revoked.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--hospital", "north=xyz"), "not hexadecimal"),
        (("--hospital", "north=" + "00" * 32), r"federation\.clients: .* 2"),
    ],
)
def test_wrong_keys_are_refused_in_two_lines(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told) as refused:
        run("agreement", "make", tmp_path / "a.yaml", "--name", "trial", *arguments)
    assert refused.value.hint
    assert not (tmp_path / "a.yaml").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("deploy", "request", "north"),
        ("client", "north"),
        ("demo", "federation", "--out", "new"),
    ],
    ids=" ".join,
)
def test_without_the_engine_one_line_says_what_to_install(
    sites: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "securefed.engine.flare.places.find_spec",
        lambda name: None if name == "nvflare" else found(name),
    )
    monkeypatch.chdir(sites)
    with pytest.raises(ConfigurationError, match="NVIDIA FLARE, which is not installed") as told:
        run(*arguments)
    assert "securefed[engine]" in str(told.value.hint)
    assert not (sites / "new").exists()
