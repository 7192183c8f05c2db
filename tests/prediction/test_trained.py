"""Patients that trained a model are told, where the key that tells patients apart is at hand."""

import csv
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from securefed.cli.app import cli
from securefed.data.phantom import PhantomSpec
from securefed.data.phantom_files import write_phantoms
from securefed.data.pseudonyms import load_or_create_key
from securefed.errors import DataError
from securefed.prediction.model import load_model
from securefed.prediction.trained import Papers, Trained, who_trained
from securefed.privacy import statement
from securefed.record.model_card import ModelCard
from securefed.run_directory import Run
from tests.tiny import settings_with

PATIENTS = 40


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with a key, and two runs on it: private, and without noise."""
    from securefed.simulation.execution import execute

    folder = tmp_path_factory.mktemp("home")
    write_phantoms(folder / "scans", PhantomSpec(image_size=32), 1, PATIENTS, seed=3)
    key = folder / "scans.site-key"
    key.write_text(f"{bytes(range(32)).hex()}\n")
    key.chmod(0o600)
    settings = settings_with(
        data={"manifest": str(folder / "scans" / "manifest.csv")},
        federation={"clients": 2, "rounds": 1},
        secure_aggregation={"allow_two_party": True},
        privacy={"epsilon": 4.0, "accountant": "rdp"},
    )
    execute(settings(), folder / "private")
    execute(settings(privacy={"dp": False}), folder / "plain")
    return folder


@pytest.fixture(scope="module")
def ids(home: Path) -> frozenset[str]:
    with (home / "scans" / "manifest.csv").open() as lines:
        return frozenset(row["patient_id"] for row in csv.DictReader(lines))


def told(model: Path, patients: Path, ids: frozenset[str]) -> Trained:
    return who_trained(ids, Papers.beside(model, load_model(model).run, patients))


def test_the_ledger_and_the_division_tell_the_same(home: Path, ids: frozenset[str]) -> None:
    scans = home / "scans"
    enrolled = statement.read(home / "scans.ledger.sqlite").enrolments
    trained = sum(each.count for each in enrolled if each.side == "trained")
    assert 0 < trained < PATIENTS
    private, plain = told(home / "private", scans, ids), told(home / "plain", scans, ids)
    assert (private.patients, plain.patients) == (trained, trained)
    assert "ledger" in private.told
    assert "division" in plain.told
    assert not any(str(home) in each.told for each in (private, plain))  # pages leave
    for each in ids:  # one by one, so that it is the same patients and not only as many
        one = frozenset([each])
        assert (
            told(home / "private", scans, one).patients == told(home / "plain", scans, one).patients
        )


def test_a_file_alone_is_looked_up_in_the_ledger_beside_the_patients(
    home: Path, ids: frozenset[str], tmp_path: Path
) -> None:
    file = shutil.copy(home / "private" / "model.safetensors", tmp_path)
    assert load_model(file).run == Run.open(home / "private").about.run
    assert told(Path(file), home / "scans", ids) == told(home / "private", home / "scans", ids)


def test_another_key_gives_no_other_division(
    home: Path, ids: frozenset[str], tmp_path: Path
) -> None:
    key = tmp_path / "another.site-key"
    load_or_create_key(key)
    for name in ("private", "plain"):
        run = home / name
        papers = Papers.beside(run, load_model(run).run, home / "scans")
        told = who_trained(ids, papers.with_files(key, None))
        assert told.patients == who_trained(ids, papers).patients
    alone = Papers(None, papers.identity, key, home / "scans.ledger.sqlite")
    assert "under this key" in who_trained(ids, alone).told


def test_strangers_did_not_train_and_phantoms_of_no_list_cannot_be_told(
    home: Path, trained: Path, strangers: Path
) -> None:
    unknown = frozenset(["somebody", "else"])
    assert told(home / "private", home / "scans", unknown).patients == 0
    assert told(trained, strangers, unknown).patients is None


def test_without_the_key_it_cannot_be_told(home: Path, ids: frozenset[str], tmp_path: Path) -> None:
    papers = Papers.beside(home / "private", "", home / "scans")
    lost = papers.with_files(tmp_path / "lost.site-key", None)
    assert who_trained(ids, lost).patients is None
    elsewhere = Papers.beside(tmp_path / "model.safetensors", "run", tmp_path / "manifest.csv")
    assert who_trained(ids, elsewhere).patients is None


def evaluate(*words: object) -> Result:
    return CliRunner().invoke(cli, ["evaluate", *map(str, words)], catch_exceptions=False)


def test_an_evaluation_of_those_that_trained_is_refused_unless_it_is_asked_for(home: Path) -> None:
    with pytest.raises(DataError, match=r"\d+ of these 40 patients trained this model") as refused:
        evaluate(home / "private", home / "scans")
    assert "--trained-too" in str(refused.value.hint)
    shown = evaluate(home / "private", home / "scans", "--trained-too")
    assert shown.exit_code == 0, shown.output
    assert "TOO GOOD" in shown.output
    # The card goes out, and has the number of training patients with noise only.
    assert ModelCard.read(home / "private").evaluations[-1].trained is True
    words = (home / "private" / "model-card.md").read_text()
    assert "**some of them trained: too good**" in words
    assert not re.search(r"\d+ of them trained", words)
    with pytest.raises(DataError, match="there is no file"):
        evaluate(home / "private", home / "scans", "--ledger", home / "nowhere")
