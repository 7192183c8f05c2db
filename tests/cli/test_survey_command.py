"""`securefed survey` as it is typed: what it prints, writes and refuses."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from securefed.cli.app import cli
from securefed.data.phantom import PhantomSpec
from securefed.data.phantom_files import write_phantoms
from securefed.errors import BudgetExceeded, ConfigurationError, RunError
from securefed.privacy.ledger import Ledger
from tests.tiny import tiny


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["survey", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(tiny(privacy={"accountant": "rdp"})))
    return path


def test_of_phantoms_it_prints_tables_and_what_they_cost(tmp_path: Path, config: Path) -> None:
    out = tmp_path / "survey"
    shown = run("--config", config, "--epsilon", 3, "--out", out)
    assert shown.exit_code == 0
    assert "4 hospitals hold" in shown.stdout
    assert "(simulation: phantom)" in shown.stdout
    assert "epsilon 3.000 at delta 0.001 per made-up patient" in shown.stdout
    assert "no sampling" in shown.stdout
    for number in range(1, 5):
        ledger = Ledger.open(out / "hospitals" / f"hospital-{number}" / "ledger.sqlite")
        assert 0 < ledger.largest().counted <= 3
    with pytest.raises(RunError, match="is not empty"):
        run("--config", config, "--out", out)


def test_of_a_manifest_with_sites_json_is_the_file(tmp_path: Path, config: Path) -> None:
    write_phantoms(tmp_path / "scans", PhantomSpec(image_size=32), 3, 10, seed=1)
    out = tmp_path / "survey"
    data = ("--data", tmp_path / "scans" / "manifest.csv", "--clients", 3)
    shown = run("--config", config, *data, "--out", out, "--json")
    assert json.loads(shown.stdout) == json.loads((out / "survey.json").read_text())
    assert json.loads(shown.stdout)["epsilon"] == 1.0


def test_all_surveys_of_a_data_set_compose_in_its_own_ledger(tmp_path: Path, config: Path) -> None:
    write_phantoms(tmp_path / "scans", PhantomSpec(image_size=32), 3, 10, seed=1)
    data = ("--config", config, "--data", tmp_path / "scans" / "manifest.csv", "--clients", 3)
    assert run(*data, "--out", tmp_path / "one").exit_code == 0
    (place,) = tmp_path.rglob("*.ledger.sqlite")  # beside the site key
    lasting = Ledger.open(place)
    once = lasting.largest().counted
    assert 0.9 < once <= 1.0
    lasting.amend_budget(1.1, "a test")
    with pytest.raises(BudgetExceeded):
        run(*data, "--out", tmp_path / "two")
    assert lasting.largest().counted == once


def test_a_small_epsilon_still_says_how_little_is_known(tmp_path: Path, config: Path) -> None:
    out = tmp_path / "survey"
    shown = run("--config", config, "--epsilon", 0.05, "--out", out)
    assert shown.exit_code == 0
    found = json.loads((out / "survey.json").read_text())
    # Of six cells. Not the interval's width: what falls below nobody is shown as nobody.
    assert 1.96 * found["deviation"] * 6**0.5 > 100


def test_what_cannot_be_is_refused_before_a_folder_is_made(tmp_path: Path, config: Path) -> None:
    out = tmp_path / "survey"
    with pytest.raises(ConfigurationError, match="more than"):
        run("--config", config, "--epsilon", 1e-9, "--out", out)
    assert not out.exists()
    assert run("--epsilon", 0, "--out", out).exit_code == 2
