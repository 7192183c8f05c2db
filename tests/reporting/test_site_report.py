"""The page of a hospital's officer: what left, when, under which agreement and policy."""

import hashlib
import json
from pathlib import Path

import jsonschema
import msgspec
import pytest
from click.testing import CliRunner

from securefed.cli.app import cli
from securefed.evidence.checks import mismatches
from securefed.record import egress, memberships
from securefed.record.recording import content, sightings
from securefed.reporting.integrity import inventory
from securefed.reporting.page import page
from securefed.reporting.site_facts import SiteReport, json_schema
from securefed.reporting.site_record import site_report
from securefed.run_directory import Run
from tests.engine.four_sites import Four
from tests.reporting.drawn import KEY, Tags

# The tests of every page, on this one.
from tests.reporting.test_report_accessibility import (  # noqa: F401  # collected here again
    Cells,
    test_every_text_colour_has_aa_contrast_in_both_themes,
    test_headings_do_not_skip_a_level,
    test_the_first_link_skips_to_the_content,
)
from tests.reporting.test_report_page import (  # noqa: F401  # collected here again
    test_no_tag_has_inline_style_or_event_handlers,
    test_nothing_is_loaded_from_anywhere,
    test_the_policy_allows_this_style_and_script_by_their_hashes_and_nothing_else,
)

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schemas" / "site-report.schema.json"


def report_of(path: Path, *, each_hospital: bool = False) -> SiteReport:
    run = Run.open(path)
    return site_report(run, inventory(path), mismatches(run), each_hospital=each_hospital)


def drawn(report: SiteReport, folder: Path) -> str:
    return page(report, folder, fingerprint="cd" * 32, signer=KEY, opened=False)


@pytest.fixture(scope="module")
def report(played: Four) -> SiteReport:
    return report_of(played.run_of("east"))


@pytest.fixture(scope="module")
def html(report: SiteReport, played: Four) -> str:
    return drawn(report, played.run_of("east"))


@pytest.fixture
def site(played: Four, tmp_path: Path) -> Path:
    """East's folder of the run, a copy."""
    return played.copied("east", tmp_path)


def test_every_message_that_the_server_got_is_on_the_page_with_its_digest(
    played: Four, report: SiteReport, html: str
) -> None:
    folder = played.server / "exposures"
    got = [
        hashlib.sha256(content(folder, seen)).hexdigest()
        for seen in sightings(folder)
        if (seen.client, seen.direction) == ("east", "up")
    ]
    assert [each.left.sha256 for each in report.messages] == got
    assert all(f"<code>{digest}</code>" in html for digest in got)
    assert report.egress.total_up == sum(each.left.size for each in report.messages)
    said = {(each.round, each.what) for each in report.messages if each.left.stage == "work"}
    assert said == {
        (1, "the update, noised and under masks"),
        (2, "the update, noised and under masks"),
        (3, "the update, noised and under masks"),
        (4, "held-out counts, noised and under masks"),
    }


def test_agreement_policy_and_ledger_are_those_of_the_run(
    played: Four, report: SiteReport, html: str
) -> None:
    site = played.sites["east"]
    assert report.agreement.digest == played.agreement.digest
    assert report.agreement.key == site.identity.public.hex()
    assert report.agreement.digest in html
    policy = {row.key: row.value for row in report.policies[0]}
    assert policy.keys() == site.policy.model_dump().keys()
    assert policy["smallest_training_set"] == "5"
    (job,) = report.jobs
    assert (job.number, job.outcome, job.finished_before) == (1, "finished", 0)
    assert report.spending is not None
    assert report.spending.limit == 20.0
    assert (report.spending.before, report.spending.now) == (None, None)  # seeded: no claim
    assert "not claimed" in html


def test_a_policy_that_changed_between_jobs_stands_there_twice(site: Path) -> None:
    run = Run.open(site)
    other = {**(run.memberships[0].policy or {}), "run_epsilon": 4.0}
    memberships.note(run.jobs, 2, "joined", 3, policy=other, spent=1.0)
    changed = report_of(site)
    assert [job.policy for job in changed.jobs] == [0, 1]
    assert [
        dict(map(msgspec.structs.astuple, rows))["run_epsilon"] for rows in changed.policies
    ] == [
        "8.0",
        "4.0",
    ]
    assert changed.state == "killed, or still at work"


def test_a_run_that_goes_on_can_be_reported_on(site: Path) -> None:
    for name in ("summary.json", "model.safetensors"):
        (site / name).unlink()
    path = Run.open(site).jobs / memberships.NAME
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    going_on = report_of(site, each_hospital=True)
    assert going_on.evidence == ()
    assert (going_on.state, going_on.results) == ("killed, or still at work", None)
    assert (going_on.jobs[0].ended, going_on.jobs[0].spent_after) == (None, None)
    assert len(going_on.messages) == len(report_of(site).messages) > 0


def test_report_json_is_valid_under_its_published_schema(report: SiteReport) -> None:
    published = json.loads(SCHEMA.read_text())
    assert published == json_schema()
    jsonschema.Draft202012Validator.check_schema(published)
    jsonschema.validate(json.loads(report.encode()), published)


def test_every_cell_says_its_column_and_every_link_leads_somewhere(html: str) -> None:
    cells = Cells(html)
    assert cells.count > 100
    assert cells.wrong == []
    anchors = {attributes["id"] for _, attributes in Tags(html).found if "id" in attributes}
    assert {(a.get("href") or "")[1:] for a in Tags(html).all("a")} <= anchors
    assert len(Tags(html).all("table")) == len(Tags(html).all("caption"))


def test_how_many_patients_there_are_stays_off_the_page_unless_asked_for(
    played: Four, report: SiteReport, html: str
) -> None:
    path = played.run_of("east")
    assert report.results is None
    assert "patients trained" not in html
    (own,) = Run.open(path).hospital_results
    asked = report_of(path, each_hospital=True)
    assert asked.results == own
    assert f"{own.training_patients} patients trained" in drawn(asked, path)


def test_text_from_files_is_escaped(report: SiteReport, played: Four) -> None:
    evil = "<script>alert(1)</script>"
    changed = msgspec.structs.replace(
        report, hospital=evil, warnings=(evil,), title=evil, place=evil, state=evil
    )
    assert evil not in drawn(changed, played.run_of("east"))


def test_what_contradicts_the_rest_is_told_and_its_numbers_are_left_out(site: Path) -> None:
    path = site / egress.NAME
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    found = report_of(site)
    assert found.verdict == "FAIL"
    assert [each.file for each in found.evidence] == [egress.NAME]
    assert found.messages == []
    html = drawn(found, site)
    assert "No message has left" not in html
    assert "What left cannot be told" in html


def test_the_command_signs_it_and_verify_names_what_changed(site: Path, tmp_path: Path) -> None:
    def command(*words: object) -> tuple[int, str]:
        result = CliRunner().invoke(cli, ["report", *map(str, words)])
        return result.exit_code, result.output + str(result.exception or "")

    folder = site.parent.parent
    code, told = command(folder, "--key", tmp_path / "key.pem", "--new-key", "--run", "trial")
    assert code == 0, told
    assert "NOT AUDITED" in told
    code, told = command("verify", folder)
    assert (code, "intact" in told) == (0, True)
    with (site / egress.NAME).open("a") as lines:
        lines.write("\n")
    code, told = command("verify", folder)
    assert code == 1
    assert f"changed: {egress.NAME}" in told
