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
from securefed.data.phantom import PhantomSpec
from securefed.data.phantom_files import write_phantoms
from securefed.errors import ConfigurationError, DataError
from securefed.server import folder as server_folder

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
    run("agreement", "accept", sites / "east", agreement, "--digest", digest)
    revoked = run("keys", "revoke", sites / "east", roster["north"], "--reason", "lost")
    assert "takes part in nothing that holds" in revoked.stdout
    (shown,) = as_json("site", "show", sites / "east")["runs"]
    assert shown["never_again"].endswith(": lost")
    assert "no job of it any more: the key of north" in run("site", "show", sites / "east").stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--hospital", "north=xyz"), "not a name, = and a key"),
        (("--hospital", "north=" + "00" * 31), "not a name, = and a key"),
        (("--hospital", "=" + "00" * 32), "not a name, = and a key"),
        (("--hospital", "north=" + "00" * 32), "nobody learns together alone"),
        (("--hospital", "north=" + "00" * 32) * 2, "names one hospital twice"),
    ],
)
def test_wrong_keys_are_refused_in_two_lines(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told) as refused:
        run("agreement", "make", tmp_path / "a.yaml", "--name", "trial", *arguments)
    assert refused.value.hint
    assert not (tmp_path / "a.yaml").exists()


def test_who_types_a_wrong_digest_is_not_told_the_right_one(sites: Path) -> None:
    digest = made(sites)["digest"]
    wrong = f"{int(digest[0], 16) ^ 1:x}{digest[1:32]}"
    with pytest.raises(ConfigurationError, match="another digest than") as refused:
        run("agreement", "accept", sites / "north", sites / "agreement.yaml", "--digest", wrong)
    told = f"{refused.value} {refused.value.hint}"
    assert "as it was read out to you" in told
    assert digest[:8] not in told


def test_who_has_accepted_asks_for_a_certificate_next(sites: Path) -> None:
    digest, north = made(sites)["digest"], sites / "north"
    accept = ("agreement", "accept", north, sites / "agreement.yaml", "--digest", digest)
    assert f"next: securefed deploy request {north}" in run(*accept).stderr
    (north / "engine" / "kit").mkdir(parents=True)
    assert f"next: securefed client {north}" in run(*accept).stderr


@pytest.mark.parametrize("columns", [40, 100])
def test_on_a_narrow_terminal_an_agreement_is_whole(
    sites: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    agreed = as_json("agreement", "show", sites / "agreement.yaml") if made(sites) else {}
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = run("agreement", "show", sites / "agreement.yaml").stdout.splitlines()
    rule = next(line for line in lines if set(line.strip()) == {"─"})
    border = lines[lines.index(rule) - 1].index("value")
    rows = lines[lines.index(rule) + 1 :]
    keys, values = (
        "".join("".join(row[part].split()) for row in rows)
        for part in (slice(0, border), slice(border, None))
    )
    assert "…" not in keys + values
    for name in NAMES:
        assert f"hospitals.{name}" in keys
        assert agreed[f"hospitals.{name}"] in values
    assert "secure_aggregation.allow_two_party" in keys


def test_the_patients_of_a_site_on_phantoms_are_called_made_up(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "scans", PhantomSpec(image_size=32), 1, 4, seed=1)
    manifest, north = tmp_path / "scans" / "manifest.csv", tmp_path / "north"
    run("site", "init", north, "--name", "north", "--lifetime-epsilon", 10, "--data", manifest)
    assert as_json("site", "show", north)["simulation"] == "phantom"
    for shown in (run("site", "show", north).stdout, run("ledger", "show", north).stdout):
        assert "per made-up patient" in shown
        assert "per patient" not in shown
    manifest.unlink()  # out of reach for now: what was spent is shown all the same
    assert as_json("site", "show", north)["spent"] == 0.0


def test_a_folder_of_the_other_kind_is_named(sites: Path) -> None:
    made(sites)
    server = sites / "server"
    server_folder.create(server, sites / "agreement.yaml")
    for arguments in (("site", "show"), ("keys", "show"), ("deploy", "request"), ("client",)):
        with pytest.raises(ConfigurationError, match="no hospital's folder") as refused:
            run(*arguments, server)
        assert refused.value.hint == "it is a server's: securefed server"
    with pytest.raises(ConfigurationError, match="no server's folder") as refused:
        run("server", sites / "north")
    assert refused.value.hint == "it is a hospital's: securefed client"


def test_a_site_is_not_made_over_a_manifest_that_is_none(tmp_path: Path) -> None:
    init = ("site", "init", tmp_path / "north", "--name", "north", "--lifetime-epsilon", 10)
    for wrong in (tmp_path / "nothing.csv", tmp_path):
        with pytest.raises(DataError):
            run(*init, "--data", wrong)
    assert not (tmp_path / "north").exists()


def test_a_lost_key_is_replaced_and_a_lost_policy_is_not_made_up(sites: Path) -> None:
    north = sites / "north"
    before = run("keys", "show", north).stdout
    (north / "identity.pem").unlink()
    with pytest.raises(ConfigurationError, match="cannot read the identity key") as refused:
        run("keys", "show", north)
    assert "securefed keys rotate" in str(refused.value.hint)
    assert "the old one is lost" in run("keys", "rotate", north, "--yes").stdout
    assert run("keys", "show", north).stdout not in ("", before)
    (north / "policy.yaml").unlink()
    with pytest.raises(ConfigurationError, match=r"cannot read .*policy\.yaml") as refused:
        run("site", "show", north)
    assert "nothing is taken part in" in str(refused.value.hint)


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
