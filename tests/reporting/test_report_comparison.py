"""A compare directory: its table, and every run's key facts on one page."""

import html
import io
import json
import math
import re
import shutil
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from securefed.cli.compare_tables import tables
from securefed.errors import RunError
from securefed.record.audit import Judgement
from securefed.record.comparison import CompareFile
from securefed.record.summary import Confusion
from securefed.reporting.compared import comparison_facts, row_cautions, run_titles
from securefed.reporting.compared_figures import _overlays, epsilon_against_auc, figures
from securefed.reporting.comparison_facts import Comparison, RocCurve
from securefed.reporting.facts import Report, Risk
from securefed.reporting.page import MANY_RUNS, page
from securefed.reporting.risks import merged
from securefed.reporting.svg import PAINT, SERIES, marker
from securefed.verdict import Verdict
from tests.reporting.conftest import facts_of


def facts(folder: Path) -> Comparison:
    found = facts_of(folder).comparison
    assert found is not None
    return found


def cells(found: Comparison, title: str, name: str) -> dict[str, str]:
    (table,) = [table for table in found.tables if title in table.title]
    (row,) = [row for row in table.rows if row.name == name]
    return dict(zip(table.columns, row.cells, strict=True))


def test_there_is_a_table_for_every_question(compared: Path) -> None:
    found = facts(compared)
    assert {
        table.title.split(":")[0]: [row.name for row in table.rows] for table in found.tables
    } == {
        "What the models are worth": ["plain", "dp+secure epsilon 8", "alone, no DP"],
        "ROC curves": ["plain", "dp+secure epsilon 8"],
        "Confusion matrices": ["plain", "dp+secure epsilon 8", "alone, no DP"],
        "What they cost": ["plain", "dp+secure epsilon 8"],
        "What leaks": ["dp+secure epsilon 8"],
        "What each observer found, figure by figure": [
            "dp+secure epsilon 8: server",
            "dp+secure epsilon 8: coalition",
        ],
        "Trained on a share of each hospital's patients, without DP": ["50%", "100%"],
    }
    assert "alone: mean over hospitals" in found.notes


def test_the_tables_hold_the_figures_of_compare_json(compared: Path) -> None:
    found, name = facts(compared), "dp+secure epsilon 8"
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
        cells(found, "Trained on a share", "50%")[
            "least tried that reaches 95% of the AUC with all"
        ]
        == "yes"
    )
    assert [row.cells for row in found.starting_report.rows] == [["0.820", "0.810"]]


def test_every_run_has_its_verdict_and_sections(compared: Path) -> None:
    report = facts_of(compared)
    assert report.kind == "compare"
    # In the order of the rows, and not of the folders.
    assert [(run.folder, run.title, run.verdict) for run in report.runs] == [
        ("seed-0/plain", "plain", "NOT AUDITED"),
        ("seed-0/dp-secure-epsilon-8", "dp+secure epsilon 8", "FAIL"),
    ]
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
    assert risk.runs == ["plain", "dp+secure epsilon 8"]
    assert risk.commands == [
        "securefed audit c/seed-0/plain",
        "securefed audit c/seed-0/dp-secure-epsilon-8",
    ]


def test_figures_of_one_run_are_not_said_of_all_that_share_the_advice() -> None:
    def risk(run: str, why: str) -> Risk:
        return Risk(
            runs=[run], title="t", why=why, change="c", commands=[], evidence="audit", grave=1
        )

    (same,) = merged([risk("a", "no DP"), risk("b", "no DP")])
    assert same.why == "no DP"
    (other,) = merged([risk("a", "AUC 0.6"), risk("b", "AUC 0.7")])
    assert (other.why, other.runs) == ("For instance a: AUC 0.6", ["a", "b"])


def test_many_runs_become_a_table_of_verdicts(compared: Path) -> None:
    report = facts_of(compared)
    runs = [msgspec.structs.replace(report.runs[0], title=f"run-{i}") for i in range(MANY_RUNS + 1)]
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
        comparison_facts(CompareFile.read(tmp_path), ())


def test_an_unfinished_comparison_says_so(compared: Path, tmp_path: Path) -> None:
    value = json.loads((compared / "compare.json").read_text())
    value["complete"] = False
    (tmp_path / "compare.json").write_text(json.dumps(value))
    assert "not finished" in comparison_facts(CompareFile.read(tmp_path), ()).notes[0]


# Figures, and what is not part of the comparison


def text_of(drawing: str) -> list[str]:
    return [html.unescape(t) for t in re.findall(r">([^<>]+)</text>", drawing)]


def test_each_figure_is_drawn_from_report_json_and_has_its_numbers_in_a_table(
    compared: Path,
) -> None:
    stored = msgspec.json.decode(facts_of(compared).encode(), type=Report)
    assert stored.comparison is not None
    drawn = figures(stored.comparison)
    captions = [caption for _, caption in drawn]
    assert [caption.split()[0].strip(",") for caption in captions] == [
        "AUC",
        "ROC",
        "Membership",
        "Inversion",
    ]
    for drawing, _ in drawn:
        assert "<title>" in drawing
        assert "<desc>" in drawing
        assert 'viewBox="0 0 400 ' in drawing  # readable on a telephone
    worth, roc, membership, _ = (drawing for drawing, _ in drawn)
    # What has an epsilon stands over it, everything else under its own name beside the axis.
    assert {"7.999", "plain", "alone, no DP", "dp+secure"} <= set(text_of(worth))
    assert "dp+secure epsilon 8: epsilon 7.999, AUC 0.900 (0.800 to 0.950)" in worth
    assert {"plain", "dp+secure epsilon 8"} <= set(text_of(roc))
    assert "server: 0.800 (0.710 to 0.880), FAIL" in membership
    found = cells(stored.comparison, "What each observer found", "dp+secure epsilon 8: server")
    assert found["membership: auc"] == "0.800 (0.710 to 0.880), at most 0.600: FAIL"


def test_series_differ_in_shape_and_dashes_not_in_colour_alone() -> None:
    marks = {re.sub(r"class=.\w+.", "", marker(i, 10, 10)) for i in range(SERIES)}
    dashes = {re.sub(r"stroke=.#\w+.", "", PAINT[f"curve{i}"]) for i in range(SERIES)}
    assert len(marks) == len(dashes) == SERIES


def test_many_curves_are_drawn_by_configuration_beside_one_without_epsilon() -> None:
    roc = ((0.0, 0.0), (0.2, 0.8), (1.0, 1.0))
    curves = [
        RocCurve(row=f"{kind} {epsilon}", kind=kind, seed=0, roc=roc)
        for kind in ("plain", "secure", "dp", "dp+secure")
        for epsilon in ((1, 2, 4) if "dp" in kind else ("",))
    ]
    found = {kind: [curve.row for curve in group] for kind, group in _overlays(curves)}
    assert found == {
        "no DP": ["plain ", "secure "],
        "dp": ["plain ", "dp 1", "dp 2", "dp 4"],
        "dp+secure": ["plain ", "dp+secure 1", "dp+secure 2", "dp+secure 4"],
    }
    assert list(_overlays(curves[:3])) == [("", curves[:3])]


def test_a_figure_over_several_metrics_is_the_one_nearest_its_threshold() -> None:
    """Not the largest number: an epsilon of 7 under 8 is no graver than an AUC of .58 under .6."""
    line = Judgement(attack="a", observer="server", verdict=Verdict.PASS, reason="", value=7.0)
    auc, epsilon = (
        msgspec.structs.replace(line, metric=metric, value=value, threshold=most)
        for metric, value, most in (("auc", 0.58, 0.6), ("epsilon", 7.0, 8.0))
    )
    assert auc.share_of_threshold > epsilon.share_of_threshold
    nothing_allowed = msgspec.structs.replace(auc, threshold=0.0)
    assert nothing_allowed.share_of_threshold == math.inf
    assert msgspec.structs.replace(auc, value=None).share_of_threshold == -math.inf


def test_the_starting_reports_rows_stand_apart_and_say_what_they_are(compared: Path) -> None:
    found = facts(compared)
    assert not [table for table in found.tables if "started from" in table.title]
    note = found.starting_report.note
    assert note.startswith("No row of this table was trained or measured here.")
    html = page(facts_of(compared), compared, fingerprint="0" * 64, signer="0" * 64, opened=False)
    part = html[html.index("An earlier report, for orientation") :]
    assert part.index("No row of this table was trained") < part.index(">fusion<")


def test_what_rows_must_be_read_with_stands_once_for_all_that_share_it(compared: Path) -> None:
    everybody = Confusion(true_positive=6, false_negative=0, false_positive=6, true_negative=0)
    file = CompareFile.read(compared)
    rows = tuple(msgspec.structs.replace(r, confusion=everybody) for r in file.configurations)
    changed = msgspec.structs.replace(file, configurations=rows)
    notes = comparison_facts(changed, ()).notes
    (note,) = [note for note in notes if "calls nearly everybody ill" in note]
    assert note.startswith("plain, dp+secure epsilon 8: ")
    assert "sensitivity 1 beside specificity 0" in note
    screen = Console(file=io.StringIO(), width=500)
    for table in tables(changed):
        screen.print(table)
    assert screen.file.getvalue().count(note) == 1  # type: ignore[attr-defined]  # it is a StringIO


def test_seeds_tell_runs_of_one_row_apart(compared: Path) -> None:
    file = CompareFile.read(compared)
    row = msgspec.structs.replace(
        file.configurations[0], seeds=(0, 1), runs=("seed-0/plain", "seed-1/plain")
    )
    titles = run_titles(msgspec.structs.replace(file, configurations=(row,)))
    assert titles == {"seed-0/plain": "plain, seed 0", "seed-1/plain": "plain, seed 1"}


def test_few_seeds_are_not_called_few_patients(compared: Path) -> None:
    file = CompareFile.read(compared)
    row = file.configurations[0]
    auc = msgspec.structs.replace(row.figures.auc, ci95_patients=(0.85, 0.95), ci95_seeds=(0, 1))
    wide = msgspec.structs.replace(
        row, seeds=(0, 1), figures=msgspec.structs.replace(row.figures, auc=auc)
    )
    notes = row_cautions(msgspec.structs.replace(file, configurations=(wide,), baselines=()))
    assert notes == ["plain: 2 seeds are too few to say what another study would give."]


def test_a_kind_of_configuration_has_its_colour_whatever_came_of_it(compared: Path) -> None:
    """By the order of the rows, which no result changes."""
    one = facts(compared).worth[0]
    rows = [
        msgspec.structs.replace(one, row=kind, kind=kind, epsilon=epsilon)
        for kind, epsilon in (("dp", 2.0), ("dp+secure", 1.9))
    ]
    shown = text_of(epsilon_against_auc(rows))
    assert shown.index("dp") < shown.index("dp+secure")
