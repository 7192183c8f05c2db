"""A server's operator audits and reports from the server's folder, which has nobody's patients."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from securefed.auditing.audit import audit
from securefed.auditing.exposures import observers_of
from securefed.cli.app import cli
from securefed.errors import RunError
from securefed.evidence import checks
from securefed.record import metrics
from securefed.run_directory import Run
from securefed.verdict import Verdict
from securefed.wire import openings
from tests.engine.four_sites import Four

ATTACKS = ("membership", "direct tests", "malicious server")


@pytest.fixture
def server(played: Four, tmp_path: Path) -> Run:
    """The server's folder, a copy."""
    return Run.open(Path(shutil.copytree(played.server, tmp_path / "coordinator")))


def test_a_server_shows_that_its_record_agrees_and_has_nobody_to_attack(server: Run) -> None:
    assert observers_of(server) == ("server", "outsider")
    file = audit(server, effort="quick", attacks=ATTACKS)
    assert file.evidence == ()
    assert [each.sees_updates for each in file.exposures] == [False, False]
    assert file.findings
    assert all(each.absent.startswith("needs patients") for each in file.findings if each.absent)
    assert all(each.value is None for each in file.findings)
    assert {line.verdict for line in file.judgements} == {None, Verdict.PASS}
    assert file.of_the_run is Verdict.INCONCLUSIVE  # nothing of the run was attacked


def test_the_exposure_of_a_server_is_the_sum_and_nothing_of_one_hospital(server: Run) -> None:
    seen = server.observers().server()
    assert seen.sees_means
    assert not seen.sees_updates
    with pytest.raises(RunError, match="what east kept is not in"):
        server.observers().peer("east")


@pytest.mark.parametrize("name", [metrics.NAME, openings.NAME, "summary.json", "run.json"])
def test_an_edited_file_is_named(server: Run, name: str) -> None:
    assert checks.mismatches(server) == ()
    path = server.path / name
    if name == openings.NAME:
        path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    else:
        edits = {
            metrics.NAME: ('"bytes_up":', '"bytes_up":1'),
            "summary.json": ('"rounds": 3', '"rounds": 2'),
            "run.json": ('"clip_norm": 1.0', '"clip_norm": 2.0'),
        }
        before, after = edits[name]
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after, 1))
    assert name in {each.file for each in checks.mismatches(Run.open(server.path))}


def test_the_report_of_a_server_says_what_was_agreed_and_that_ledgers_are_elsewhere(
    server: Run, tmp_path: Path
) -> None:
    key = tmp_path / "key.pem"
    result = CliRunner().invoke(cli, ["report", str(server.path), "--key", str(key), "--new-key"])
    assert result.exit_code == 0, result.output
    (run,) = json.loads((server.path / "report.json").read_text())["runs"]
    assert run["evidence"] == []
    assert run["ledgers"] == []
    assert run["utility"]["training_patients"] is None
    assert run["privacy"]["dp"]
    assert run["egress"]["complete"]
    page = (server.path / "report.html").read_text()
    assert "No ledger lies in this directory." in page
