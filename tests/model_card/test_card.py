"""The card beside a model: made of its run's records, completed, and signed with the report."""

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from click.testing import CliRunner, Result

from securefed.cli.app import cli
from securefed.errors import RunError
from securefed.evidence.checks import mismatches
from securefed.model_card import card
from securefed.model_card.words import in_words
from securefed.record.model_card import ModelCard
from securefed.record.run_file import Weights
from securefed.reporting.facts import schema_of
from securefed.run_directory import Run
from tests.prediction.conftest import strangers, trained
from tests.reporting.conftest import made_up_audit
from tests.tiny import settings_with

__all__ = ["strangers", "trained"]  # fixtures
SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "model-card.schema.json"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A finished run of one's own."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with canaries and seeded noise, whose held-out counts are exact."""
    from securefed.simulation.execution import execute

    settings = settings_with(
        privacy={"epsilon": 8.0, "accountant": "rdp", "seeded_noise": True},
        federation={"clients": 3, "rounds": 1},
        canaries={"count": 4},
    )
    path = tmp_path_factory.mktemp("private") / "run"
    execute(settings(), path)
    return path


def securefed(*words: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)


def test_a_run_writes_it_from_its_records(run: Path) -> None:
    made, about = ModelCard.read(run), Run.open(run)
    assert made.details.run == about.about.run
    assert made.details.weights == about.about.model.weights
    assert made.training
    assert (made.training.hospitals, made.training.rounds) == (3, 12)
    assert made.held_out
    assert (made.held_out.auc, made.held_out.noise) == (about.summary.auc, None)
    assert made.privacy.sentence == "no differential privacy: no epsilon"
    assert made.audit is None
    published = json.loads(SCHEMA.read_text())
    assert published == schema_of(ModelCard, "SecureFed model card, schema 1")
    jsonschema.validate(json.loads(made.encode()), published)


def test_who_must_not_use_it_is_told_first(run: Path, private: Path) -> None:
    lines = (run / card.WORDS).read_text().splitlines()
    assert lines[2].startswith("> **Do not use on patients:** it was trained on made-up patients")
    told = (private / card.WORDS).read_text().splitlines()[2]
    assert "made-up records were among its patients, for an audit" in told
    assert "who has the seed removes its noise" in told


def test_no_number_that_epsilon_does_not_cover_stands_beside_an_epsilon(private: Path) -> None:
    made = ModelCard.read(private)
    assert made.held_out is None  # counts of this run are exact
    assert made.training
    assert made.training.patients is None  # and so is the declared number
    assert (made.privacy.epsilon, made.privacy.noise) == (None, "seeded")


def test_it_names_no_hospital_and_no_patient(run: Path) -> None:
    text = (run / card.WORDS).read_text() + (run / ModelCard.NAME).read_text()
    assert not [name for name in Run.open(run).hospitals if name in text]
    assert "phantom-" not in text


def test_it_is_the_same_whenever_it_is_made(run: Path) -> None:
    before = [(run / name).read_bytes() for name in (ModelCard.NAME, card.WORDS)]
    card.renew(run)
    assert [(run / name).read_bytes() for name in (ModelCard.NAME, card.WORDS)] == before


def test_an_evaluation_is_added_once_for_its_data(run: Path, strangers: Path) -> None:
    left = securefed("evaluate", run, strangers, "--no-card")
    assert "model card" not in left.output
    assert ModelCard.read(run).evaluations == ()
    for _ in range(2):
        done = securefed("evaluate", run, strangers, "--json")
        (added,) = ModelCard.read(run).evaluations
        everybody = json.loads(done.stdout)["groups"][0]
        assert (added.patients, added.auc) == (40, everybody["figures"]["auc"])
    assert "Evaluation on 40 patients" in (run / card.WORDS).read_text()
    assert securefed("evaluate", run, strangers).stderr.count("added to the model card") == 1
    card.renew(run)  # as an audit does
    assert ModelCard.read(run).evaluations == (added,)
    lone = shutil.copy(run / "model.safetensors", run.parent)
    assert "model card" not in securefed("evaluate", lone, strangers).output


def without(manifest: Path, left_out: int, folder: Path) -> Path:
    """The manifest of the same patients but for some."""
    shutil.copytree(manifest.parent, folder)
    header, *lines = manifest.read_text().splitlines()
    names = list(dict.fromkeys(line.split(",")[0] for line in lines))
    kept = [line for line in lines if line.split(",")[0] not in names[:left_out]]
    (folder / manifest.name).write_text("\n".join([header, *kept]) + "\n")
    return folder / manifest.name


def relabelled(manifest: Path) -> Path:
    """With the first patient's label turned."""
    header, *lines = manifest.read_text().splitlines()
    at, name = header.split(",").index("label"), lines[0].split(",")[0]
    rows = [line.split(",") for line in lines]
    for row in rows:
        if row[0] == name:
            row[at] = str(1 - int(row[at]))
    manifest.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return manifest


def test_two_evaluations_on_a_card_never_differ_by_a_few_patients(
    run: Path, strangers: Path, tmp_path: Path
) -> None:
    one_less, ten_less = (without(strangers, n, tmp_path / str(n)) for n in (1, 10))
    assert securefed("evaluate", run, strangers).exit_code == 0
    private = run / "evaluated.jsonl"
    assert private.stat().st_mode & 0o777 == 0o600
    assert "phantom-" not in private.read_text()
    before = (run / ModelCard.NAME).read_bytes()
    done = CliRunner().invoke(cli, ["evaluate", str(run), str(one_less)])
    assert "but for fewer than 5 the patients of an evaluation" in str(done.exception)
    assert "expected calibration error" in done.stdout  # the figures are there
    assert (run / ModelCard.NAME).read_bytes() == before
    assert securefed("evaluate", run, one_less, "--no-card").exit_code == 0
    other_label = relabelled(without(strangers, 0, tmp_path / "relabelled"))
    done = CliRunner().invoke(cli, ["evaluate", str(run), str(other_label)])
    assert "but for fewer than 5" in str(done.exception)
    assert securefed("evaluate", run, ten_less).exit_code == 0
    assert [each.patients for each in ModelCard.read(run).evaluations] == [40, 30]
    assert len(private.read_text().splitlines()) == 3


def test_the_same_figures_of_a_manifest_with_a_column_more_are_on_the_card_already(
    run: Path, strangers: Path, tmp_path: Path
) -> None:
    wider = without(strangers, 0, tmp_path / "wider")
    header, *lines = wider.read_text().splitlines()
    wider.write_text("\n".join([f"{header},sex", *(f"{line},f" for line in lines)]) + "\n")
    for manifest in (strangers, wider):
        assert "added to the model card" in securefed("evaluate", run, manifest).stderr
        assert len(ModelCard.read(run).evaluations) == 1
    assert len((run / "evaluated.jsonl").read_text().splitlines()) == 2  # a key and one evaluation


def test_who_was_evaluated_is_known_or_nobody_else_gets_onto_the_card(
    run: Path, strangers: Path, tmp_path: Path
) -> None:
    securefed("evaluate", run, strangers)
    (run / "evaluated.jsonl").unlink()
    other = without(strangers, 10, tmp_path / "other")
    done = CliRunner().invoke(cli, ["evaluate", str(run), str(other)])
    assert "of nobody knows whom" in str(done.exception)
    (run / "evaluated.jsonl").write_text("{")
    done = CliRunner().invoke(cli, ["evaluate", str(run), str(other)])
    assert "evaluated.jsonl is damaged" in str(done.exception)


def test_a_card_that_cannot_be_written_costs_no_figures(run: Path, strangers: Path) -> None:
    (run / ModelCard.NAME).write_text("{")
    done = CliRunner().invoke(cli, ["evaluate", str(run), str(strangers)])
    assert isinstance(done.exception, RunError)
    assert "the figures are not on the model card" in str(done.exception)
    assert "--no-card" in str(done.exception.hint)
    assert "expected calibration error" in done.stdout


def test_a_report_that_was_signed_before_is_to_be_made_again(run: Path, strangers: Path) -> None:
    assert securefed("report", run, "--key", run.parent / "key.pem", "--new-key").exit_code == 0
    done = securefed("evaluate", run, strangers)
    assert "signed before" in done.stderr
    assert f"securefed report {run}" in done.stderr


def test_an_audit_is_told_and_files_that_contradict_each_other_have_no_card(run: Path) -> None:
    audit: dict[str, Any] = {
        **made_up_audit("PASS"),
        "run": Run.open(run).about.run,
        "configuration": "secure",
    }
    (run / "audit.json").write_text(json.dumps(audit))
    made = card.renew(run)
    assert made
    assert made.audit
    assert made.audit.verdict == "PASS"
    assert set(made.audit.families) == {line["attack"] for line in audit["judgements"]}
    assert "**PASS** by the policy" in (run / card.WORDS).read_text()
    audit["evidence"] = [{"file": "summary.json", "told": "changed"}]
    (run / "audit.json").write_text(json.dumps(audit))
    assert card.renew(run) is None
    card.withdraw(run)
    assert not (run / card.WORDS).exists()


def test_a_card_that_was_changed_breaks_the_reports_seal(run: Path) -> None:
    from securefed.reporting.integrity import verify

    assert securefed("report", run, "--key", run.parent / "key.pem", "--new-key").exit_code == 0
    verify(run, None)
    with (run / card.WORDS).open("a") as words:
        words.write("Safe for everybody.\n")
    with pytest.raises(RunError, match=r"changed: model-card\.md"):
        verify(run, None)


def test_a_file_alone_has_the_card_that_it_says_itself(run: Path) -> None:
    beside = card.of_model(run)
    assert beside == card.of_model(run / "model.safetensors") == ModelCard.read(run)
    lone = Path(shutil.copy(run / "model.safetensors", run.parent))
    alone = card.of_model(lone)
    assert alone.do_not_use == beside.do_not_use
    assert alone.details.model == beside.details.model
    assert (alone.training, alone.held_out, alone.audit) == (None, None, None)
    # The card of another model is not this one's.
    shutil.copy(run / ModelCard.NAME, run.parent)
    other = msgspec.structs.replace(
        beside, details=msgspec.structs.replace(beside.details, model="0" * 64)
    )
    other.write(run.parent)
    assert card.of_model(lone) == alone


def test_texts_of_files_are_no_markdown(run: Path) -> None:
    made = ModelCard.read(run)
    source = Weights(sha256="0" * 64, source="[x](http://y)\n# <b>", licence="*a*")
    details = msgspec.structs.replace(made.details, weights=(source,))
    told = in_words(msgspec.structs.replace(made, details=details))
    assert r"\[x\](http://y) \# \<b\>, licence \*a\*" in told


def test_a_card_that_records_do_not_give_is_told_and_an_audit_would_write_it_again(
    run: Path,
) -> None:
    def told(*, audit: bool = True) -> list[str]:
        return [str(each) for each in mismatches(Run.open(run), audit=audit)]

    assert told() == []
    words = (run / card.WORDS).read_text()
    (run / card.WORDS).write_text(words.replace("**Do not use on patients:**", "Use it:"))
    assert told() == ["model-card.md: is not model-card.json in words"]
    made = ModelCard.read(run)
    msgspec.structs.replace(made, do_not_use=()).write(run)
    assert told()[0] == "model-card.json: its do_not_use is not what the records give"
    assert told(audit=False) == []
    (run / ModelCard.NAME).unlink()
    assert "missing" in told()[0]
    card.renew(run)
    assert told() == []
    assert (run / card.WORDS).read_text() == words
