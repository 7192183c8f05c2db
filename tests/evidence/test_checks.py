"""Evidence against itself: whatever is changed in a run directory is named, with its file.

Each edit here passed in silence before, or stopped an audit without a verdict: an epsilon of 1.0 in
summary.json was signed as the headline beside a ledger of 8.
"""

import json
import sqlite3
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from securefed.errors import RunError
from securefed.evidence import checks
from securefed.evidence.files import of_inventory
from securefed.privacy.ledger import Ledger
from securefed.record.inventory import Inventory
from securefed.record.mismatch import Mismatch
from securefed.run_directory import Run
from securefed.simulation import execution
from tests.evidence.conftest import settings

LEDGER = "hospitals/hospital-2/ledger.sqlite"


def told(run: Path) -> list[Mismatch]:
    """What all checks find but the one for changed bytes, which would hide the others."""
    found = checks.mismatches(Run.open(run))
    return [each for each in found if "changed since the run ended" not in each.told]


def test_a_run_that_nobody_touched_agrees_with_itself(whole: Path) -> None:
    assert checks.mismatches(Run.open(whole)) == ()
    checks.require(Run.open(whole))


def test_a_run_whose_scores_carry_noise_agrees_with_itself(tmp_path: Path) -> None:
    noised = settings(privacy={"evaluation_epsilon": 2.0}, canaries={"count": 0})
    execution.execute(noised, tmp_path / "run")
    assert Run.open(tmp_path / "run").summary.evaluation_epsilon
    assert checks.mismatches(Run.open(tmp_path / "run")) == ()
    for edit in (at("evaluation_epsilon", value=0.5), at("accuracy", value=0.99)):
        before = (tmp_path / "run" / "summary.json").read_text()
        content = json.loads(before)
        edit(content)
        (tmp_path / "run" / "summary.json").write_text(json.dumps(content))
        assert any(each.file == "summary.json" for each in told(tmp_path / "run"))
        (tmp_path / "run" / "summary.json").write_text(before)


def test_the_check_for_bytes_names_every_file_of_which_one_changed(run: Path) -> None:
    opened, listed = Run.open(run), Inventory.read(run).files
    assert len(listed) > 25
    for each in listed:
        path = run / each.path
        before = path.read_bytes()
        place = len(before) // 2
        path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
        assert [one.file for one in of_inventory(opened)] == [each.path]
        path.write_bytes(before)


# ---- one number of each file, by whatever else shows it ------------------------------------------


def at(*keys: str | int, value: Any = None) -> Callable[[Any], None]:
    """Puts another value in a place: the one given, or made of the one before, or a little more."""

    def edit(content: Any) -> None:
        *way, last = keys
        for key in way:
            content = content[key]
        before = content[last]
        if callable(value):
            content[last] = value(before)
        else:
            content[last] = value if value is not None else before + 1
        assert content[last] != before

    return edit


def other_coins(coins: str) -> str:
    """Every coin turned. They are drawn anew for each run, so six fixed ones may be theirs."""
    return coins.translate(str.maketrans("01", "10"))


JSON_EDITS = [
    ("summary.json", at("epsilon", value=1.0)),
    ("summary.json", at("epsilon_by_client", "hospital-2", value=1.0)),
    ("summary.json", at("noise", value="seeded")),
    ("summary.json", at("delta", value=1e-9)),
    ("summary.json", at("privacy_unit", value="image")),
    ("summary.json", at("accountant", value="prv")),
    ("summary.json", at("rounds")),
    ("summary.json", at("clients")),
    ("summary.json", at("patients")),
    ("summary.json", at("survivors_by_round", 1)),
    ("summary.json", at("auc", value=0.99)),
    ("summary.json", at("auc_ci95", 0, value=0.0123)),
    ("summary.json", at("accuracy", value=0.99)),
    ("summary.json", at("sensitivity", value=0.99)),
    ("summary.json", at("specificity", value=0.99)),
    ("summary.json", at("f1", value=0.99)),
    ("summary.json", at("local_auc", value=0.9)),
    ("summary.json", at("bytes_up_per_client_round")),
    ("summary.json", at("bytes_down_per_client_round")),
    ("summary.json", at("client_seconds_per_round")),
    ("summary.json", at("aggregate_seconds_per_round")),
    ("summary.json", at("wall_seconds", value=0.0)),
    ("held_out.json", at("patients")),
    ("held_out.json", at("confusion", "true_positive")),
    ("held_out.json", at("roc", 1, 0, value=0.77)),
    ("held_out.json", at("calibration", "loss_before")),
    ("summary.json", at("temperature", value=1.25)),
    ("checkpoint.json", at("round", value=2)),
    ("run.json", at("run", value="f" * 32)),
    ("run.json", at("settings", "privacy", "seeded_noise", value=True)),
    ("run.json", at("settings", "privacy", "epsilon", value=80.0)),
    ("run.json", at("settings", "privacy", "clip_norm", value=9.0)),
    ("run.json", at("settings", "training", "batch_size", value=9)),
    ("run.json", at("settings", "federation", "rounds", value=2)),
    ("run.json", at("settings", "canaries", "count", value=5)),
    ("run.json", at("settings", "seed")),
    ("run.json", at("data", "hospitals", 1, value="hospital-9")),
    ("run.json", at("model", "shared_parameters")),
    ("run.json", at("randomness", "seed")),
    ("run.json", at("randomness", "dp_noise_and_sampling", value="seeded")),
    ("hospitals/hospital-2/agreement.json", at("records")),
    ("hospitals/hospital-2/agreement.json", at("parameters")),
    ("hospitals/hospital-2/agreement.json", at("event", "noise_multiplier", value=4.0)),
    ("hospitals/hospital-2/agreement.json", at("event", "sample_rate", value=0.1)),
    ("hospitals/hospital-2/agreement.json", at("event", "steps")),
    ("hospitals/hospital-2/agreement.json", at("settings", "privacy", "epsilon", value=80.0)),
    ("hospitals/hospital-2/agreement.json", at("declared_patients")),
    ("hospitals/hospital-2/agreement.json", at("declared_records")),
    ("hospitals/hospital-2/declared.json", at("patients")),
    ("hospitals/hospital-2/declared.json", at("records")),
    ("summary.json", at("canaries")),
    ("summary.json", at("rounds_aborted")),
    ("summary.json", at("simulation", value="paired-by-class")),
    ("hospitals/hospital-2/summary.json", at("training_patients")),
    ("hospitals/hospital-2/summary.json", at("held_out_patients")),
    ("hospitals/hospital-2/summary.json", at("epsilon", value=1.0)),
    ("hospitals/hospital-2/summary.json", at("noise", value="seeded")),
    ("hospitals/hospital-1/canaries.json", at("coins", value=other_coins)),
    ("hospitals/hospital-1/canaries.json", at("parameters")),
]


@pytest.mark.parametrize(("file", "edit"), JSON_EDITS)
def test_an_edited_number_is_found_by_what_else_shows_it(
    run: Path, file: str, edit: Callable[[Any], None]
) -> None:
    content = json.loads((run / file).read_text())
    edit(content)
    (run / file).write_text(json.dumps(content))
    found = told(run)
    assert any(file in str(each) or fnmatch(file, each.file) for each in found), found


METRICS_EDITS = [
    (0, at("survivors", 0, value="hospital-9")),
    (0, at("auc", value=0.99)),
    (0, at("loss", value=0.1)),
    (0, at("noise", value="none")),
    (0, at("bytes_up")),
    (0, at("bytes_down")),
    (0, at("round", value=7)),
    (2, at("bytes_up")),
    (2, at("noise", value="none")),
    (-1, at("epsilon", value=1.0)),
    (-4, at("auc", value=0.99)),
]


@pytest.mark.parametrize(("line", "edit"), METRICS_EDITS)
def test_an_edited_line_of_the_metrics_is_found(
    run: Path, line: int, edit: Callable[[Any], None]
) -> None:
    path = run / "metrics.jsonl"
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    edit(lines[line])
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    assert any("metrics.jsonl" in str(each) for each in told(run))


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("model.safetensors", "classifier."),  # shared: follows from the messages
        ("model.safetensors", "encoder_ct."),  # public: as everybody started
        ("checkpoint-3.safetensors", "shared"),
    ],
)
def test_an_edited_weight_is_found(run: Path, file: str, name: str) -> None:
    tensors = load_file(run / file)
    weights = next(value for key, value in tensors.items() if key.startswith(name))
    weights.reshape(-1)[0] += 0.01
    save_file(tensors, run / file)
    assert any(each.file == file for each in told(run)), told(run)


@pytest.mark.parametrize("folder", ["exposures", "hospitals/hospital-2/contributions"])
def test_an_edited_byte_of_a_message_is_found(run: Path, folder: str) -> None:
    path = run / folder / "messages.bin"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x41
    path.write_bytes(bytes(content))
    assert any(each.file.startswith(folder[:9]) for each in told(run)), told(run)


@pytest.mark.parametrize("place", ["openings.jsonl", "hospitals/hospital-2/openings.jsonl"])
@pytest.mark.parametrize("edit", ["a question", "a hospital", "a line"])
def test_an_edited_memory_of_opened_sums_is_found(run: Path, place: str, edit: str) -> None:
    """Without it a server may ask again over other hospitals, and subtract."""
    lines = [json.loads(line) for line in (run / place).read_text().splitlines()]
    assert len(lines) == 6  # three rounds, three scorings
    if edit == "a question":
        lines[1]["question"] = "0" * 64
    elif edit == "a hospital":
        lines[1]["over"] = lines[0]["over"][:-1]  # in place of null: those of the line before
    else:
        del lines[1]
    (run / place).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert any(each.file == place for each in told(run)), told(run)


@pytest.mark.parametrize(
    ("file", "end"),
    [("metrics.jsonl", -1), ("exposures/index.jsonl", -1), ("exposures/jobs.jsonl", 0)],
)
def test_a_line_that_was_taken_out_is_found(run: Path, file: str, end: int) -> None:
    lines = (run / file).read_text().splitlines(keepends=True)
    (run / file).write_text("".join(lines[:end]))
    assert told(run)


def test_every_file_that_is_taken_away_is_called_missing(run: Path) -> None:
    files = [path for path in run.rglob("*") if path.is_file() and path.name != "run.json"]
    for path in files:
        place = path.relative_to(run).as_posix()
        if place in ("summary.json", "hospitals.log"):
            continue  # without a summary the run is not finished; a log is no evidence
        before = path.read_bytes()
        path.unlink()
        found = checks.mismatches(Run.open(run))
        assert any(place in str(each) for each in found), place
        path.write_bytes(before)


# ---- ledgers -------------------------------------------------------------------------------------


def execute(run: Path, statement: str) -> None:
    """Change a ledger as its owner can: without its triggers."""
    database = sqlite3.connect(run / LEDGER)
    names = database.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for (name,) in names:
        database.execute(f"DROP TRIGGER {name}")
    database.execute(statement)
    database.commit()
    database.close()


def test_a_row_that_only_its_own_chain_tells_of_is_found(run: Path) -> None:
    """Nothing else in the directory says when a round was reserved."""
    execute(run, "UPDATE reservation SET reserved_at = 'yesterday' WHERE round = 2")
    (found,) = told(run)
    assert (found.file, "chain is broken" in found.told) == (LEDGER, True)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM reservation WHERE round = 2",
        "DELETE FROM reservation",
        "DELETE FROM reservation WHERE round = 0",
        "UPDATE reservation SET noise_multiplier = 9.0 WHERE round = 0",
        "UPDATE reservation SET noise_multiplier = 4.0",
        "UPDATE reservation SET sample_rate = 0.1 WHERE round = 1",
        "UPDATE reservation SET steps = 0 WHERE round = 3",
        "UPDATE reservation SET run = 'another'",
        "UPDATE reservation SET round = 9 WHERE round = 3",
        "UPDATE reservation SET replay_key = 'k' WHERE round = 3",
        "UPDATE ledger SET delta = 0.5",
        "UPDATE ledger SET client = 'hospital-1'",
        "UPDATE ledger SET unit = 'image'",
        "UPDATE ledger SET accountant = 'prv'",
        "UPDATE budget SET epsilon = 100",
        "DELETE FROM budget",
        "DELETE FROM ledger",
    ],
)
def test_an_edited_ledger_is_found(run: Path, statement: str) -> None:
    execute(run, statement)
    assert any(each.file == LEDGER for each in told(run)), told(run)


def test_a_reservation_too_many_is_no_fault_of_the_ledger_but_of_the_summary(run: Path) -> None:
    """A crash may leave one; the summary that does not know of it claims too little."""
    ledger = Ledger.open(run / LEDGER)
    entry = next(each for each in ledger.statement().reservations if each.round == 3)
    ledger.amend_budget(100.0, "for the repetition")
    ledger.reserve(3, entry.event, run=entry.run)
    assert {each.file for each in told(run)} == {
        "summary.json",
        "metrics.jsonl",
        "hospitals/hospital-2/summary.json",
    }


def test_the_ledger_is_read_and_stays_as_it_is(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    checks.mismatches(Run.open(run))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_the_refusal_names_each_file_on_a_line_of_its_own(run: Path) -> None:
    (run / LEDGER).unlink()
    with pytest.raises(RunError) as refused:
        checks.require(Run.open(run))
    assert f"\n  {LEDGER}: missing" in str(refused.value)
    assert str(run) in str(refused.value)
