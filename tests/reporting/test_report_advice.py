"""What the page tells its reader: figures with what they can carry, words, commands, advice."""

import json
import re
import shlex
import shutil
from html import unescape
from pathlib import Path

import click
import msgspec
import pytest

from attacks.remedies import EFFORT, MISSING
from securefed.cli.app import cli
from securefed.config import PATHS
from securefed.record.agreement import differing_setting
from securefed.record.audit import Judgement
from securefed.record.mismatch import Mismatch
from securefed.reporting.facts import Report
from securefed.reporting.provenance import WITHHELD
from securefed.reporting.risks import risks
from securefed.reporting.unmeasured import unmeasured
from securefed.reporting.utility import unsure_hospitals
from tests.reporting.conftest import add_audit, facts_of, made_up_audit, make_run
from tests.reporting.drawn import drawn

ROOT = Path(__file__).resolve().parents[2]


def commands(html: str) -> list[list[str]]:
    """Every command that the page shows, as a shell would take it."""
    found = re.findall(r'<span class="command"><code>(.*?)</code>', html)
    return [shlex.split(unescape(line)) for line in found]


@pytest.mark.parametrize("name", ["run", "a run"])
def test_every_command_can_be_typed_as_it_stands(
    unaudited: Path, tmp_path: Path, name: str
) -> None:
    """In the folder that the reported one lies in; none has a place to fill in."""
    folder = Path(shutil.copytree(unaudited, tmp_path / name))
    shown = commands(drawn(facts_of(folder), folder))
    assert {tuple(line[:2]) for line in shown} == {("securefed", "audit"), ("securefed", "report")}
    for program, verb, *arguments in shown:
        assert program == "securefed"
        assert name in arguments
        # Under its program's settings: a command keeps the help option it was first asked for.
        above = click.Context(cli, **cli.context_settings)
        command = cli.get_command(above, verb)
        assert command is not None
        command.make_context(verb, arguments, parent=above)  # refuses what it does not take


def test_no_text_of_a_report_has_a_place_to_fill_in(html: str, unaudited: Path) -> None:
    sources = [*(ROOT / "securefed/reporting").rglob("*.py")]
    sources += [*(ROOT / "securefed/reporting/templates").iterdir()]
    for text in (html, drawn(facts_of(unaudited), unaudited), *map(Path.read_text, sources)):
        assert not re.search(r"securefed \w+ [A-Z_]{3,}", text)


def test_a_path_is_withheld_whatever_it_looks_like(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    about = json.loads((folder / "run.json").read_text())
    about["settings"]["data"] |= {"manifest": "mueller.csv", "site_key": "C:mueller.key"}
    (folder / "run.json").write_text(json.dumps(about))
    report = facts_of(folder)
    given = {row.key: row.value for row in report.runs[0].settings}
    assert given["data.manifest"] == given["data.site_key"] == WITHHELD
    assert given["data.partition"] == "iid"
    assert "mueller" not in report.encode().decode()
    assert "mueller" not in drawn(report, folder)
    assert {"data.manifest", "data.site_key"} == PATHS


def test_a_path_that_was_changed_is_named_and_not_repeated() -> None:
    agreed, other = ({"data": {"manifest": name}} for name in ("mueller.csv", "meier.csv"))
    assert differing_setting(agreed, other) == "data.manifest is another path"


def test_figures_of_a_few_patients_are_not_put_forward(report: Report, audited: Path) -> None:
    few = msgspec.structs.replace(
        report.runs[0].utility,
        auc=1.0,
        auc_ci95=(0.28, 1.0),
        unsure=["auc", "sensitivity"],
        cautions=["3 held-out patients are too few."],
    )
    run = msgspec.structs.replace(report.runs[0], utility=few)
    html = drawn(msgspec.structs.replace(report, runs=[run]), audited)
    shown = '<dd class="unsure">not known <small>1; anywhere from 0.280 to 1</small></dd>'
    assert html.count(shown) == 2  # the first screen and the section
    assert "<dd>1 <small>" not in html
    assert html.count("3 held-out patients are too few.") == 2


def test_a_hospitals_auc_of_a_few_patients_is_not_put_forward(audited: Path) -> None:
    report = facts_of(audited, each_hospital=True)
    (run,) = report.runs
    few = msgspec.structs.replace(run.hospitals[0], auc=1.0, auc_ci95=(0.28, 1.0))
    hospitals = (few, *run.hospitals[1:])
    assert unsure_hospitals(hospitals) == [few.name]
    told = msgspec.structs.replace(run, hospitals=hospitals, unsure_hospitals=[few.name])
    html = drawn(msgspec.structs.replace(report, runs=[told]), audited)
    assert html.count("not known (1)") == 1
    assert "interval is wider than 0.3 is called not known" in html


def test_a_refusal_is_in_words_and_its_error_stays_in_the_json(html: str, report: Report) -> None:
    audit = report.runs[0].audit
    assert audit is not None
    assert audit.attempts[0].clear is not None
    assert audit.attempts[0].clear.detail == "RunError"
    assert "refused: the request does not fit this run" in html
    assert "RunError" not in html


def test_what_a_canary_tests_figures_mean_stands_beside_them(html: str) -> None:
    part = html[html.index("Epsilon measured from below") : html.index("Malicious server")]
    assert "At least 0.400 was lost, which is within the 2.200 claimed" in part
    assert "The test is blind to the claim: four times in five it sees a true epsilon of 3.100" in (
        part
    )


@pytest.mark.parametrize(
    ("effort", "more"),
    [
        ("quick", [["securefed", "audit", "run"]]),
        ("default", [["securefed", "audit", "run", "--thorough"]]),
        ("thorough", []),
    ],
)
def test_the_advice_after_an_audit_is_the_next_larger_effort(
    tmp_path: Path, effort: str, more: list[list[str]]
) -> None:
    folder = make_run(tmp_path / "run")
    audit = made_up_audit("INCONCLUSIVE") | {"effort": effort}
    add_audit(folder, audit)
    report = facts_of(folder)
    (risk,) = [risk for risk in report.risks if risk.title == "The audit could not decide"]
    assert [shlex.split(line) for line in risk.commands] == more
    found = [line for line in commands(drawn(report, folder)) if line[1] == "audit"]
    assert found == more


@pytest.mark.parametrize(
    ("effort", "remedy", "more"),
    [
        ("quick", EFFORT, ["securefed audit run"]),
        ("quick", MISSING, ["securefed audit run"]),
        ("default", EFFORT, ["securefed audit run --thorough"]),
        ("default", MISSING, []),
        ("default", "", ["securefed audit run --thorough"]),
        ("thorough", EFFORT, []),
    ],
)
def test_advice_on_what_is_open_is_the_audits_own_and_more_effort_only_where_it_helps(
    tmp_path: Path, effort: str, remedy: str, more: list[str]
) -> None:
    folder = make_run(tmp_path / "run")
    audit = made_up_audit("INCONCLUSIVE") | {"effort": effort}
    audit["judgements"] = [audit["judgements"][0] | {"remedy": remedy}]
    add_audit(folder, audit)
    report = facts_of(folder)
    (risk,) = [risk for risk in report.risks if "could not decide" in risk.title]
    assert risk.commands == more
    assert remedy in risk.change
    assert ("default effort" in risk.change) == (effort == "quick")
    assert drawn(report, folder).count(f"To settle it: {remedy}") == bool(remedy)


def test_lines_without_a_figure_stand_together_where_they_lack_it_for_one_reason() -> None:
    def line(observer: str, method: str, reason: str, value: float | None = None) -> Judgement:
        return Judgement(
            attack="membership",
            observer=observer,
            method=method,
            metric="auc",
            verdict=None,
            reason=reason,
            value=value,
        )

    few, fewer = "36 distinct non-members", "12 distinct non-members"
    lines = [line("server", "lira", few), line("server", "rmia", few), line("peer", "lira", few)]
    first, second = unmeasured([*lines, line("peer", "loss", "fine", 0.5), line("o", "x", fewer)])
    assert (first.observers, first.titles) == (("server", "peer"), ("lira, auc", "rmia, auc"))
    assert second.reason == fewer


def test_made_up_patients_have_no_ledger_per_patient(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    about = json.loads((folder / "run.json").read_text())
    about["data"]["simulation"] = "phantom"
    (folder / "run.json").write_text(json.dumps(about))
    report = facts_of(folder)
    assert {ledger.unit for ledger in report.runs[0].ledgers} == {"made-up patient"}
    html = drawn(report, folder)
    assert not re.search(r"per patient(?! of a hospital|\.)", html.replace("per made-up", ""))


@pytest.mark.parametrize(
    ("files", "commands"),
    [(["audit.json"], ["securefed audit run"]), (["audit.json", "run.json"], [])],
)
def test_an_audit_that_does_not_agree_can_be_made_again_and_a_run_cannot(
    report: Report, files: list[str], commands: list[str]
) -> None:
    evidence = tuple(Mismatch(file, "changed") for file in files)
    first, *_ = risks(msgspec.structs.replace(report.runs[0], evidence=evidence))
    assert first.why == "; ".join(map(str, evidence)) + "."
    assert first.commands == commands
    assert ("Believe none of it" in first.change) == (not commands)
