"""The ledger says on how many hospitals' noise a round relied, and old ledgers keep opening."""

import sqlite3
from pathlib import Path

import pytest

from securefed.errors import ConfigurationError, PrivacyError
from securefed.privacy.accounting import Event, epsilon
from securefed.privacy.ledger import Ledger

OWN = Event(1.0, 0.25, 1)
SHARED = Event(1.0, 0.25, 1, noise_from=3)


def create(path: Path) -> Ledger:
    return Ledger.create(path, client="hospital-1", unit="patient", delta=1e-5, budget_epsilon=None)


def test_noise_of_others_is_on_record_and_costs_the_same(tmp_path: Path) -> None:
    ledger = create(tmp_path / "ledger.sqlite")
    for number, event in enumerate((OWN, SHARED, OWN)):
        ledger.reserve(number, event, run="a")
    again = Ledger.open(ledger.path)
    assert again.history() == [OWN, SHARED, OWN]
    assert again.spent() == epsilon([Event(1.0, 0.25, 3)], 1e-5)


def test_ledger_of_before_opens_and_goes_on(tmp_path: Path) -> None:
    ledger = create(tmp_path / "ledger.sqlite")
    ledger.reserve(0, OWN, run="a")
    with sqlite3.connect(ledger.path) as database:  # as version 1 of the file was first laid out
        database.execute("DROP TABLE shared_noise")
        database.execute("DROP TABLE chain")
        database.execute("PRAGMA user_version = 1")
    database.close()
    old = Ledger.open(ledger.path)
    assert old.history() == [OWN]
    old.reserve(1, SHARED, run="a")
    assert Ledger.open(ledger.path).history() == [OWN, SHARED]


def test_same_replay_key_for_noise_of_fewer_hospitals_is_refused(tmp_path: Path) -> None:
    ledger = create(tmp_path / "ledger.sqlite")
    ledger.reserve(0, SHARED, run="a", replay_key="k")
    assert ledger.reserve(0, SHARED, run="a", replay_key="k").replayed
    with pytest.raises(PrivacyError, match="same replay key"):
        ledger.reserve(0, OWN, run="a", replay_key="k")
    assert ledger.history() == [SHARED]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE shared_noise SET hospitals = 2",
        "DELETE FROM shared_noise",
        "INSERT OR REPLACE INTO shared_noise VALUES (1, 2)",
    ],
)
def test_record_of_shared_noise_is_append_only(tmp_path: Path, statement: str) -> None:
    ledger = create(tmp_path / "ledger.sqlite")
    ledger.reserve(0, SHARED, run="a")
    database = sqlite3.connect(ledger.path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        database.execute(statement)
    database.close()
    assert ledger.history() == [SHARED]


@pytest.mark.parametrize("noise_from", [0, -1, 1.5, True])
def test_impossible_numbers_of_hospitals_are_refused(noise_from: object) -> None:
    with pytest.raises(ConfigurationError, match="noise_from must be a whole number"):
        Event(1.0, 0.25, 1, noise_from=noise_from)  # type: ignore[arg-type]
