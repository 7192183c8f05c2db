"""report.json follows from the files; damaged or contradicting files are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from markupsafe import escape

from securefed.data.manifest import SIMULATIONS
from securefed.errors import RunError
from securefed.reporting.facts import Report
from securefed.reporting.integrity import inventory
from securefed.reporting.page import page
from securefed.run_directory import Run
from tests.reporting.conftest import facts_of

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs" / "schemas" / "report.schema.json").read_text())


def facts(folder: Path) -> Report:
    return facts_of(folder)


@pytest.fixture
def copied(audited: Path, tmp_path: Path) -> Path:
    """The audited run, to be damaged."""
    return Path(shutil.copytree(audited, tmp_path / "run"))


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


# The schema


def test_the_published_schema_is_that_of_the_types() -> None:
    from securefed.reporting.facts import json_schema

    assert json_schema() == SCHEMA


def test_report_json_is_valid_under_the_published_schema(plain_facts: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads(msgspec.json.encode(plain_facts)), SCHEMA)


@pytest.mark.parametrize(
    "edit",
    [
        lambda value: value.pop("risks"),
        lambda value: value["runs"][0].update(verdict="MAYBE"),
        lambda value: value["runs"][0]["privacy"].update(epsilon="two"),
        lambda value: value.update(extra=1),
    ],
)
def test_the_schema_refuses_what_is_no_report(
    plain_facts: dict[str, Any], edit: Callable[[dict[str, Any]], object]
) -> None:
    value = json.loads(msgspec.json.encode(plain_facts))
    edit(value)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, SCHEMA)


# What follows from the files


def test_an_unaudited_run_is_called_not_audited(unaudited: Path) -> None:
    report = facts(unaudited)
    run = report.runs[0]
    assert run.verdict == "NOT AUDITED"
    assert run.audit is None
    (risk,) = [risk for risk in report.risks if "attacked" in risk.title]
    assert risk.commands == ["securefed audit run"]
    assert any("Nobody has attacked" in risk.title for risk in report.risks)


def test_epsilon_comes_with_all_that_it_means_nothing_without(report: Report) -> None:
    sentence = report.runs[0].privacy.sentence
    for part in ("delta 1e-05", "per patient", "add/remove", "Poisson", "RDP", "upper bound"):
        assert part in sentence


def test_ledgers_are_composed_anew_by_both_accountants(report: Report) -> None:
    run = report.runs[0]
    assert [ledger.hospital for ledger in run.ledgers] == ["hospital-1", "hospital-2", "hospital-3"]
    for ledger in run.ledgers:
        assert ledger.epsilon_rdp == pytest.approx(run.privacy.epsilon)
        assert ledger.epsilon_prv is not None
        assert ledger.epsilon_rdp is not None
        assert 0 < ledger.epsilon_prv < ledger.epsilon_rdp
        assert [(m.steps, m.noise_multiplier) for m in ledger.mechanisms] == [(2, 2.0)]


def test_reading_a_ledger_leaves_its_folder_as_it_was(unaudited: Path) -> None:
    before = inventory(unaudited)
    facts(unaudited)
    assert inventory(unaudited) == before


def test_egress_counts_every_byte_by_hospital_and_stage(report: Report) -> None:
    egress = report.runs[0].egress
    assert egress is not None
    assert egress.total_up == 2 * 5 * 3 * 100
    assert egress.total_down == 2 * 5 * 3 * 5
    assert egress.complete
    assert {(f.hospital, f.stage, f.messages, f.bytes) for f in egress.flows} == {
        (f"hospital-{i}", stage, 2, 200)
        for i in (1, 2, 3)
        for stage in ("advertise", "share", "work", "confirm", "unmask")
    }


def test_egress_says_when_the_recording_and_the_metrics_disagree(copied: Path) -> None:
    index = copied / "exposures" / "index.jsonl"
    index.write_text("".join(index.read_text().splitlines(keepends=True)[:-1]))
    egress = facts(copied).runs[0].egress
    assert egress is not None
    assert not egress.complete
    assert "3000 bytes" in egress.note
    assert "2900" in egress.note


def test_without_recorded_messages_bytes_are_still_counted(copied: Path) -> None:
    shutil.rmtree(copied / "exposures")
    egress = facts(copied).runs[0].egress
    assert egress is not None
    assert egress.source == "metrics.jsonl"
    assert egress.total_up == 3000
    assert {flow.stage for flow in egress.flows} == {"all stages"}


def test_paths_of_the_machine_do_not_travel_in_settings(report: Report) -> None:
    assert "/srv" not in msgspec.json.encode(report).decode()


def test_confusion_matrix_and_roc_are_as_counted(report: Report) -> None:
    utility = report.runs[0].utility
    assert utility.confusion is not None
    assert (utility.confusion.true_positive, utility.confusion.false_negative) == (15, 3)
    assert (utility.confusion.false_positive, utility.confusion.true_negative) == (4, 18)
    assert utility.roc == ((0.0, 0.0), (4 / 22, 15 / 18), (1.0, 1.0))


def test_what_was_not_counted_is_not_made_up(copied: Path) -> None:
    (copied / "held_out.json").unlink()
    utility = facts(copied).runs[0].utility
    assert (utility.confusion, utility.roc) == (None, None)


# Risks and questions


def test_persons_with_two_ids_that_were_allowed_are_a_risk(copied: Path) -> None:
    title = "One person may be two patients"
    assert title not in [risk.title for risk in facts(copied).risks]
    change(
        copied / "run.json", lambda value: value["settings"]["data"].update(allow_duplicates=True)
    )
    assert title in [risk.title for risk in facts(copied).risks]


# What leaves without epsilon


def test_what_leaves_without_epsilon_is_computed_for_the_run(copied: Path, unaudited: Path) -> None:
    def told(folder: Path, **how: bool) -> str:
        report = facts_of(folder, **how)
        (run,) = report.runs
        html = page(report, folder, fingerprint="0" * 64, signer="0" * 64, opened=False)
        assert all(str(escape(each.what)) in html for each in run.outside_epsilon)
        return "\n".join(f"{each.what}: {each.form}" for each in run.outside_epsilon)

    assert "scores in steps" not in told(copied)  # an epsilon of their own
    change(
        copied / "run.json",
        lambda value: value["settings"]["privacy"].update(evaluation_epsilon=None),
    )
    scored = sum(line.loss is not None for line in Run.open(copied).metrics.rounds)
    assert f"exact, {scored} times" in told(copied)
    assert "figures of attacks" in told(copied)
    assert "figures of attacks" not in told(unaudited)
    assert "each hospital's numbers" not in told(copied)
    assert "each hospital's numbers" in told(copied, each_hospital=True)
    assert "the number of training patients" not in told(copied)  # declared, within epsilon
    change(
        copied / "run.json",
        lambda value: value["settings"]["privacy"].update(patients_epsilon=None),
    )
    assert "the number of training patients" in told(copied)


def test_each_hospitals_numbers_are_on_the_page_only_when_asked_for(copied: Path) -> None:
    for asked in (False, True):
        report = facts_of(copied, each_hospital=asked)
        assert bool(report.runs[0].hospitals) == asked
        html = page(report, copied, fingerprint="0" * 64, signer="0" * 64, opened=False)
        assert ("own results, asked for" in html) == asked
        assert ("own numbers stay in its folder" in html) != asked


@pytest.mark.parametrize("kind", list(SIMULATIONS))
def test_a_simulation_is_the_first_risk_and_nothing_holds_per_patient(
    copied: Path, kind: str
) -> None:
    change(copied / "run.json", lambda value: value["data"].update(simulation=kind))
    report = facts(copied)
    assert "no result here is about" in report.risks[0].title
    (run,) = report.runs
    assert run.simulation == kind
    assert SIMULATIONS[kind] in run.banners[0]
    assert run.privacy.unit == "made-up patient"
    assert "per made-up patient of a hospital" in run.privacy.sentence
    text = page(report, copied, fingerprint="0" * 64, signer="0" * 64, opened=False)
    assert 'class="banner"' in text
    assert text.index(SIMULATIONS[kind]) < text.index("What to change first")
    assert "per patient" not in text.replace("Nothing here holds per patient", "")


def test_a_run_with_canaries_is_not_for_use_and_says_so_first(copied: Path) -> None:
    change(copied / "run.json", lambda value: value["settings"]["canaries"].update(count=40))
    report = facts(copied)
    assert report.risks[0].title == "A run for auditing: its model is not for use"
    (run,) = report.runs
    assert run.canaries == 40
    assert run.banners[0].startswith("Made for auditing: 40 made-up records")
    text = page(report, copied, fingerprint="0" * 64, signer="0" * 64, opened=False)
    assert text.index("Do not use this model") < text.index("What to change first")


def test_a_failed_attack_is_the_first_risk(report: Report) -> None:
    assert report.risks[0].title == "An attack succeeds: membership, by the server"
    graves = [risk.grave for risk in report.risks]
    assert graves == sorted(graves, reverse=True)


def test_a_broken_control_is_told_before_what_could_not_be_decided(copied: Path) -> None:
    def edit(value: dict[str, Any]) -> None:
        value["verdict"] = "INVALID"
        value["judgements"][0]["verdict"] = "INVALID"
        value["controls"][0].update(met=False, reason="auc: the interval does not hold 0.5")

    change(copied / "audit.json", edit)
    report = facts(copied)
    assert report.runs[0].verdict == "INVALID"
    assert "A control is off its gate" in report.risks[0].title


def test_a_check_that_a_hospital_fails_is_a_risk(copied: Path) -> None:
    change(copied / "audit.json", lambda value: value["checks"][0].update(refused=False))
    report = facts(copied)
    assert any("no parameters" in risk.title for risk in report.risks)
    family = report.runs[0].audit.families[-1]  # type: ignore[union-attr]
    assert family.verdict == "FAIL"


def test_every_answer_points_to_a_value_in_the_report(
    report: Report, plain_facts: dict[str, Any]
) -> None:
    pointers = [e.pointer for question in report.questions for e in question.evidence]
    assert len(pointers) > 20
    for pointer in pointers:
        value: Any = plain_facts
        for step in pointer.split("/")[1:]:
            value = value[int(step)] if isinstance(value, list) else value[step]
        assert value not in (None, "")


def test_questions_without_figures_are_left_unanswered(unaudited: Path) -> None:
    questions = {q.question: q for q in facts(unaudited).questions}
    tested = next(q for text, q in questions.items() if "tested and evaluated" in text)
    assert tested.evidence == []
    assert "not audited" in tested.unanswered
    bound = next(q for text, q in questions.items() if "unit of privacy" in text)
    assert next(e.says for e in bound.evidence) == "Unit: patient"


@pytest.mark.parametrize(
    "source", ["EDPB Opinion 28/2024", "NIST SP 800-226", "GDPR Article 32", "GDPR Article 35"]
)
def test_every_source_is_mapped(report: Report, source: str) -> None:
    assert any(question.source == source for question in report.questions)


# Refusals


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"neither a run \(run.json\) nor a comparison"):
        facts(tmp_path)


def test_an_unfinished_run_is_refused_with_the_way_on(copied: Path) -> None:
    (copied / "summary.json").unlink()
    with pytest.raises(RunError, match="not finished") as refused:
        facts(copied)
    assert "--resume" in str(refused.value.hint)


@pytest.mark.parametrize("name", ["run.json", "summary.json", "audit.json", "metrics.jsonl"])
@pytest.mark.parametrize("content", ["{", '{"schema": 1}', "[]", "\xff"])
def test_a_damaged_file_is_refused_by_name_in_one_line(
    copied: Path, name: str, content: str
) -> None:
    (copied / name).write_text(f"{content}\n", encoding="latin-1")
    with pytest.raises(RunError, match=name) as refused:
        facts(copied)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda v: v.update(verdict="COMPLIANT"), "COMPLIANT"),
        (lambda v: v.update(schema=2), "has schema 2"),
        (lambda v: v.update(configuration="plain"), "is of a plain run"),
        (lambda v: v.update(run="f" * 32), "another run"),
        (lambda v: v["pictures"][0].update(file="../../secret.png"), "no picture of this audit"),
        (lambda v: v["pictures"][0].update(file="/etc/passwd"), "no picture of this audit"),
        (lambda v: v["pictures"][0].update(file="audit/gone.png"), "which is not there"),
        (lambda v: v["judgements"][0].update(value="high"), "damaged"),
    ],
)
def test_an_audit_that_is_not_of_this_run_or_malformed_is_refused(
    copied: Path, edit: Callable[[dict[str, Any]], object], told: str
) -> None:
    change(copied / "audit.json", edit)
    with pytest.raises(RunError, match=told):
        facts(copied)


def test_missing_optional_keys_and_unknown_ones_are_taken_kindly(copied: Path) -> None:
    def edit(value: dict[str, Any]) -> None:
        for key in ("seconds", "epsilon", "pictures", "curves", "exposures", "checks", "details"):
            value.pop(key)
        value["something_new"] = {"a": 1}

    change(copied / "audit.json", edit)
    assert facts(copied).runs[0].verdict == "FAIL"


def test_a_symbolic_link_is_refused(copied: Path) -> None:
    (copied / "elsewhere").symlink_to("/etc")
    with pytest.raises(RunError, match="symbolic link"):
        facts(copied)


# Rounds of two hospitals


@pytest.mark.parametrize("survivors", [[3, 2], [2, 2], [2, 0]])
def test_a_round_of_two_of_three_hospitals_shows_each_the_others_update(
    copied: Path, survivors: list[int]
) -> None:
    change(copied / "summary.json", lambda value: value.update(survivors_by_round=survivors))
    (run,) = facts(copied).runs
    (peer,) = [sight for sight in run.sights if sight.observer == "peer"]
    assert peer.exposed
    assert any("Two hospitals in a round" in risk.title for risk in facts(copied).risks)


@pytest.mark.parametrize("survivors", [[3, 3], [3, 0], [0, 0]])
def test_an_aborted_round_is_no_round_of_two(copied: Path, survivors: list[int]) -> None:
    change(copied / "summary.json", lambda value: value.update(survivors_by_round=survivors))
    (run,) = facts(copied).runs
    assert not any(sight.exposed for sight in run.sights if sight.observer == "peer")
