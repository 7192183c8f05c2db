"""A compare directory: its table, and every run's key facts on one page."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from securefed.errors import RunError
from securefed.record.comparison import CompareFile
from securefed.reporting.compared import comparison_facts
from securefed.reporting.facts import Comparison
from securefed.reporting.page import MANY_RUNS, page
from tests.reporting.conftest import facts_of


def cells(found: Comparison, title: str, name: str) -> dict[str, str]:
    (table,) = [table for table in found.tables if title in table.title]
    (row,) = [row for row in table.rows if row.name == name]
    return dict(zip(table.columns, row.cells, strict=True))


def test_there_is_a_table_for_every_question(compared: Path) -> None:
    found = comparison_facts(CompareFile.read(compared))
    assert {
        table.title.split(":")[0]: [row.name for row in table.rows] for table in found.tables
    } == {
        "What the models are worth": ["plain", "dp+secure epsilon 8", "alone, no DP"],
        "Confusion matrices": ["plain", "dp+secure epsilon 8", "alone, no DP"],
        "What they cost": ["plain", "dp+secure epsilon 8"],
        "What leaks": ["dp+secure epsilon 8"],
        "Trained on a share of each hospital's patients, without DP": ["50%", "100%"],
        "The starting report (another data set)": ["fusion"],
    }
    assert "alone: mean over hospitals" in found.notes


def test_the_tables_hold_the_figures_of_compare_json(compared: Path) -> None:
    found, name = comparison_facts(CompareFile.read(compared)), "dp+secure epsilon 8"
    worth = cells(found, "worth", name)
    assert (worth["AUC"], worth["95% over patients"]) == ("0.900", "0.800 to 0.950")
    assert worth["converged at round"] == "8"
    assert cells(found, "Confusion", name) == {
        "found": "5",
        "missed": "1",
        "false alarms": "2",
        "rightly none": "4",
    }
    cost = cells(found, "cost", name)
    assert (cost["epsilon spent"], cost["bytes up"]) == ("7.999", "2.5 kB")
    assert (cost["hospital seconds"], cost["server seconds"]) == ("20.0 ms", "3.0 ms")
    leaks = cells(found, "leaks", name)
    assert leaks["verdict"] == "FAIL"
    assert leaks["server"] == "membership 0.800: FAIL"
    assert leaks["outsider"] == "–"
    assert (
        cells(found, "share of", "50%")["least tried that reaches 95% of the AUC with all"] == "yes"
    )
    assert cells(found, "starting", "fusion") == {"AUC": "0.820", "accuracy": "0.810"}


def test_every_run_has_its_verdict_and_sections(compared: Path) -> None:
    report = facts_of(compared)
    assert report.kind == "compare"
    assert {run.folder: run.verdict for run in report.runs} == {
        "seed-0/dp-secure-epsilon-8": "FAIL",
        "seed-0/plain": "NOT AUDITED",
    }
    html = page(report, compared, fingerprint="0" * 64, signer="0" * 64, opened=False)
    for prefix in ("run0-", "run1-"):
        for section in ("sees", "utility", "privacy", "egress", "audit", "settings"):
            assert f'id="{prefix}{section}"' in html
    assert len(set(ids := [part.split('"')[0] for part in html.split(' id="')[1:]])) == len(ids)


def test_the_same_advice_to_several_runs_stands_once(compared: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(compared, tmp_path / "c"))
    (folder / "seed-0" / "dp-secure-epsilon-8" / "audit.json").unlink()
    report = facts_of(folder)
    (risk,) = [risk for risk in report.risks if risk.title == "Nobody has attacked this run"]
    assert risk.run == "seed-0/dp-secure-epsilon-8, seed-0/plain"


def test_many_runs_become_a_table_of_verdicts(compared: Path) -> None:
    report = facts_of(compared)
    runs = [
        msgspec.structs.replace(report.runs[0], folder=f"run-{i}") for i in range(MANY_RUNS + 1)
    ]
    many = msgspec.structs.replace(report, runs=runs)
    html = page(many, compared, fingerprint="0" * 64, signer="0" * 64, opened=False)
    assert "verdict-card fail" not in html
    assert '<a href="#run4">run-4</a>' in html


@pytest.mark.parametrize(
    "value", [{"schema": 2}, {"schema": 1, "configurations": 3}, {"configurations": []}, []]
)
def test_a_damaged_comparison_is_refused_by_name(tmp_path: Path, value: object) -> None:
    (tmp_path / "compare.json").write_text(json.dumps(value))
    with pytest.raises(RunError, match=r"compare\.json"):
        comparison_facts(CompareFile.read(tmp_path))


def test_an_unfinished_comparison_says_so(compared: Path, tmp_path: Path) -> None:
    value = json.loads((compared / "compare.json").read_text())
    value["complete"] = False
    (tmp_path / "compare.json").write_text(json.dumps(value))
    assert "not finished" in comparison_facts(CompareFile.read(tmp_path)).notes[0]
