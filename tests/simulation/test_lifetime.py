"""The ledger of a data set: what is spent on its patients stays, whatever becomes of a run."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from securefed.cli.app import cli
from securefed.config import Settings
from securefed.data.phantom import PhantomSpec
from securefed.data.phantom_files import write_phantoms
from securefed.data.pseudonyms import SiteKey
from securefed.errors import BudgetExceeded, PrivacyError
from securefed.privacy import statement
from securefed.privacy.accounting import Event, epsilon
from securefed.privacy.ledger import Ledger
from securefed.run_directory import Run
from securefed.simulation import execution, lifetime
from tests.tiny import changed, tiny

PATIENTS = 60


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set of drawn patients, with a key of its own."""
    write_phantoms(tmp_path / "scans", PhantomSpec(image_size=32), 1, PATIENTS, seed=3)
    key = tmp_path / "scans.site-key"
    key.write_text(f"{bytes(range(32)).hex()}\n")
    key.chmod(0o600)
    return tmp_path / "scans"


def settings(data: Path, /, **sections: Any) -> Settings:
    chosen = changed(
        tiny(),
        data={"manifest": str(data / "manifest.csv"), "partition": "iid"},
        privacy={"epsilon": 4.0, "delta": 1e-3, "accountant": "rdp", "evaluation_epsilon": 2.0},
        federation={"clients": 2, "rounds": 2},
        secure_aggregation={"allow_two_party": True},
    )
    return Settings.model_validate(changed(chosen, **sections))


def ledger_of(data: Path) -> Ledger:
    return Ledger.open(data.with_name("scans.ledger.sqlite"))


def test_two_runs_on_one_data_set_compose_whoever_the_hospitals_are(
    data: Path, tmp_path: Path
) -> None:
    """Each patient is worked out by itself: by which hospital it was in, and on which side."""
    execution.execute(settings(data), tmp_path / "one")
    first = ledger_of(data).largest().counted
    assert first <= 4.0
    three = settings(data, federation={"clients": 3, "minimum_clients": 2}, seed=5)
    execution.execute(three, tmp_path / "two")
    held = ledger_of(data).statement()
    spent: dict[tuple[str, str], list[Event]] = {}
    for entry in held.reservations:
        spent.setdefault((entry.run, "trained"), []).append(entry.event)
    for each in held.evaluations:
        spent.setdefault((each.run, "held out"), []).append(each.event)
    by_patient: dict[bytes, list[Event]] = {}
    for one in held.enrolments:
        for token in one.tokens():
            by_patient.setdefault(token, []).extend(spent.get((one.run, one.side), []))
    assert len(by_patient) == PATIENTS
    most = max(epsilon(history, 1e-3, "rdp") for history in by_patient.values())
    assert held.largest().counted == pytest.approx(most, rel=1e-12)
    assert most > first
    # A run directory holds its own part, as before.
    for run, hospitals in (("one", 2), ("two", 3)):
        directory = Run.open(tmp_path / run)
        assert len(directory.ledgers) == hospitals
        for name, own in directory.ledgers.items():
            part = held.of_run(f"{directory.about.run}/{name}")
            assert [each.event for each in part.reservations] == own.history
            assert own.guarantee().counted <= 4.0


def test_what_is_spent_stays_when_the_run_goes(data: Path, tmp_path: Path) -> None:
    execution.execute(settings(data), tmp_path / "run")
    before = ledger_of(data).largest()
    shutil.rmtree(tmp_path / "run")
    assert ledger_of(data).largest() == before
    assert before.counted > 0


def test_a_run_beyond_the_limit_is_refused_before_anything_is_spent(
    data: Path, tmp_path: Path
) -> None:
    execution.execute(settings(data), tmp_path / "one")
    ledger = ledger_of(data)
    ledger.amend_budget(ledger.largest().counted + 0.1, "enough")
    rows = ledger.statement().reservations
    with pytest.raises(BudgetExceeded, match="this run would take scans to epsilon"):
        execution.execute(settings(data), tmp_path / "two")
    assert not (tmp_path / "two").exists()
    assert ledger.statement().reservations == rows


@pytest.mark.parametrize("placement", ["local", "distributed"])
def test_a_stopped_run_goes_on_only_with_the_ledger_of_its_patients(
    data: Path, tmp_path: Path, placement: str
) -> None:
    class StoppedError(Exception):
        pass

    def stop(line: object) -> None:
        raise StoppedError

    chosen = settings(data, privacy={"placement": placement})
    with pytest.raises(StoppedError):
        execution.execute(chosen, tmp_path / "run", on_round=stop)
    run, place = Run.open(tmp_path / "run"), data.with_name("scans.ledger.sqlite")
    kept = tmp_path / "kept.sqlite"
    with closing(sqlite3.connect(place)) as source, closing(sqlite3.connect(kept)) as copy:
        source.backup(copy)
    place.unlink()
    with pytest.raises(PrivacyError, match=r"there is no ledger at .* has begun"):
        execution.resume(run)
    assert not place.exists()
    empty = lifetime.open_ledger(run.settings, begun=False)
    assert empty is not None
    with pytest.raises(PrivacyError, match="holds fewer reservations of this run"):
        execution.resume(run)
    for file in place.parent.glob(f"{place.name}*"):
        file.unlink()
    shutil.copyfile(kept, place)
    execution.resume(Run.open(tmp_path / "run"))
    whole = statement.read(place)
    for name, own in Run.open(tmp_path / "run").ledgers.items():
        assert whole.attempts(f"{run.about.run}/{name}") == own.attempts(run.about.run)


def test_another_unit_is_refused_and_another_delta_is_counted_at_the_ledger_s(
    data: Path, tmp_path: Path
) -> None:
    ledger = lifetime.open_ledger(settings(data), begun=False)
    assert ledger is not None
    with pytest.raises(PrivacyError, match=r"counts by patient, privacy\.unit is image"):
        execution.execute(settings(data, privacy={"unit": "image"}), tmp_path / "image")
    execution.execute(settings(data, privacy={"delta": 1e-4}), tmp_path / "run")
    spent = ledger.largest()
    assert spent.delta == 1e-3
    assert spent.counted < 4.0  # at a larger delta less


def test_phantoms_and_runs_without_privacy_have_none(data: Path, tmp_path: Path) -> None:
    assert lifetime.place(Settings.model_validate(tiny())) is None
    clear = settings(data, privacy={"dp": False})
    assert lifetime.place(clear) is None
    execution.execute(clear, tmp_path / "run")
    assert not list(tmp_path.glob("*.sqlite"))


def test_data_sets_under_one_key_share_a_ledger(data: Path) -> None:
    key = data.with_name("hospital.key")
    chosen = settings(data, data={"site_key": str(key)})
    assert lifetime.place(chosen) == data.with_name("hospital.key.ledger.sqlite")
    assert SiteKey(bytes(32)).token("a") != SiteKey(bytes(range(32))).token("a")


def test_the_terminal_says_in_a_line_what_is_left(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps(settings(data).model_dump(mode="json")))

    def run(*words: object) -> str:
        done = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
        assert done.exit_code == 0
        return done.output.replace("\n", " ")

    shown = run("run", "--config", config, "--out", tmp_path / "run")
    assert "over all runs on this data set: epsilon" in shown
    assert "no limit is set" in shown
    run("ledger", "budget", data, "--epsilon", 30, "--reason", "the board", "--yes")
    assert "left:   epsilon" in run("ledger", "show", data)
    notes = json.loads(
        CliRunner()
        .invoke(cli, ["run", "--config", str(config), "--out", str(tmp_path / "b"), "--json"])
        .stdout
    )["notes"]
    assert " is left of 30 (" in notes[-1]
