"""Whoever relies on a run's files asks the same checks: audit, report, comparison and resume.

An audit of files that contradict each other is FAIL with their names, never a traceback and never
without a verdict; a page claims no epsilon and says what is missing.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from securefed.auditing.audit import audit
from securefed.cli.app import cli
from securefed.comparison.runs import finish
from securefed.errors import PolicyNotMet, RunError
from securefed.record.audit import AuditFile
from securefed.run_directory import Run
from securefed.simulation.patients import load_data
from securefed.verdict import Verdict
from tests.evidence.conftest import settings
from tests.tiny import resume, settings_with, start

LEDGER = "hospitals/hospital-2/ledger.sqlite"


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def change(path: Path, **values: Any) -> None:
    """Put other values into a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def page_of(run: Path, tmp_path: Path) -> tuple[dict[str, Any], str]:
    """report.json, and the page in words."""
    key = tmp_path / "key.pem"
    made = command("report", run, "--key", key, *([] if key.exists() else ["--new-key"]))
    assert made.exit_code == 0, made.output
    assert json.loads((run / "report.sig").read_text())
    return json.loads((run / "report.json").read_text()), (run / "report.html").read_text()


@pytest.mark.parametrize("file", ["summary.json", "metrics.jsonl", "model.safetensors", LEDGER])
def test_an_audit_of_damaged_or_missing_evidence_is_a_fail_with_its_name(
    run: Path, file: str
) -> None:
    if file == LEDGER:
        (run / file).unlink()
    else:
        (run / file).write_bytes(b"{\n")
    found = audit(Run.open(run), effort="quick")
    assert found.verdict is Verdict.FAIL
    assert file in {each.file for each in found.evidence}
    assert AuditFile.read(run) == found


def test_the_audit_command_names_the_file_and_exits_as_for_a_policy(run: Path) -> None:
    change(run / "summary.json", epsilon=1.0)
    done = command("audit", run, "--quick")
    assert isinstance(done.exception, PolicyNotMet)
    assert done.exception.exit_code == 3
    assert "summary.json: epsilon is 1.000, the ledgers give" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.output


def test_a_page_claims_no_epsilon_where_a_ledger_is_missing(run: Path, tmp_path: Path) -> None:
    (run / LEDGER).unlink()
    facts, html = page_of(run, tmp_path)
    (one,) = facts["runs"]
    assert one["privacy"]["epsilon"] is None
    assert one["privacy"]["sentence"].startswith("No epsilon is claimed: ")
    assert f"{LEDGER}: missing" in one["privacy"]["sentence"]
    assert one["verdict"] == "FAIL"
    rows = {row["hospital"]: row["told"] for row in one["ledgers"]}
    assert rows == {"hospital-1": "", "hospital-2": "missing", "hospital-3": ""}
    assert LEDGER in facts["risks"][0]["why"]
    assert f"<code>{LEDGER}</code>" in html
    assert "not claimed" in html


def test_a_page_does_not_repeat_an_edited_epsilon(run: Path, tmp_path: Path) -> None:
    change(run / "summary.json", epsilon=1.0, auc=0.99)
    facts, html = page_of(run, tmp_path)
    (one,) = facts["runs"]
    assert (one["privacy"]["epsilon"], one["utility"]["auc"]) == (None, None)
    assert "summary.json" in one["privacy"]["sentence"]
    assert "Epsilon 1.000" not in html


@pytest.mark.parametrize(
    "file",
    [
        "metrics.jsonl",
        "held_out.json",
        "exposures/index.jsonl",
        "hospitals/hospital-3/summary.json",
        "hospitals/hospital-3/agreement.json",
        "checkpoint.json",
        "model.safetensors",
    ],
)
@pytest.mark.parametrize("left", [None, b"\xff{\n"])
def test_every_file_that_a_page_relies_on_is_a_risk_where_it_is_missing_or_damaged(
    run: Path, tmp_path: Path, file: str, left: bytes | None
) -> None:
    if left is None:
        (run / file).unlink()
    else:
        (run / file).write_bytes(left)
    facts, _ = page_of(run, tmp_path)
    assert any(each["file"] == file for each in facts["runs"][0]["evidence"])
    assert "contradict each other" in facts["risks"][0]["title"]
    assert facts["runs"][0]["privacy"]["epsilon"] is None


def test_a_verdict_edited_to_pass_is_not_signed(run: Path, tmp_path: Path) -> None:
    audit(Run.open(run), effort="quick", observers=["outsider"], attacks=["epsilon"])
    before = AuditFile.read(run)
    assert before.verdict is not Verdict.PASS
    facts, _ = page_of(run, tmp_path)
    assert facts["runs"][0]["verdict"] == before.verdict
    change(run / "audit.json", verdict="PASS")
    facts, _ = page_of(run, tmp_path)
    assert facts["runs"][0]["verdict"] == "FAIL"
    assert facts["runs"][0]["audit"] is None
    assert "audit.json: the verdict is PASS" in facts["runs"][0]["privacy"]["sentence"]


def test_a_comparison_takes_no_finished_run_that_contradicts_itself(run: Path) -> None:
    change(run / "summary.json", epsilon=1.0)
    wanted = settings()
    with pytest.raises(RunError, match=r"summary\.json: epsilon is 1\.000"):
        finish(run, wanted, load_data(wanted), lambda share: None, lambda text: None)


def test_a_resumed_run_is_held_against_itself_before_anybody_is_asked(tmp_path: Path) -> None:
    wanted = settings_with(
        privacy={"accountant": "rdp"},
        federation={"shared": "classifier", "rounds": 3},
        secure_aggregation={"max_patients": 16},
    )()
    begun = start(wanted, tmp_path / "run")
    next(begun.rounds())
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    about = json.loads((tmp_path / "copy" / "run.json").read_text())
    about["settings"]["privacy"]["seeded_noise"] = True
    (tmp_path / "copy" / "run.json").write_text(json.dumps(about))
    with pytest.raises(RunError, match=r"run\.json: privacy\.seeded_noise is true, not false"):
        resume(tmp_path / "copy")
    assert resume(tmp_path / "run").server.finished == 1
