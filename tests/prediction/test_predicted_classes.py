"""A model of several classes in use: a column for each, the class called, and how well it does."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import confusion_matrix, roc_auc_score

from securefed.cli.app import cli
from securefed.data.load import load_manifest
from securefed.data.phantom import PhantomSpec
from securefed.data.phantom_files import write_phantoms
from securefed.errors import DataError
from securefed.prediction import table
from securefed.prediction.explanation import explain
from securefed.prediction.model import ReleasedModel, load_model
from securefed.prediction.predict import predict
from securefed.simulation.execution import execute
from tests.tiny import settings_with

CLASSES = ("healthy", "tumour", "calcification", "abscess")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = settings_with(
        task={"classes": CLASSES},
        federation={"rounds": 2},
        privacy={"dp": False},
        secure_aggregation={"enabled": False},
    )
    path = tmp_path_factory.mktemp("trained") / "run"
    execute(settings(), path)
    return path


@pytest.fixture(scope="module")
def model(trained: Path) -> ReleasedModel:
    return load_model(trained)


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = PhantomSpec(image_size=32, slices=(2, 4), classes=4)
    folder = tmp_path_factory.mktemp("strangers") / "data"
    write_phantoms(folder, spec, 1, 40, 11, classes=CLASSES)
    return folder / "manifest.csv"


def call(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(cli, list(map(str, arguments)))
    assert done.exit_code == code, done.output
    return done.stdout


def test_each_class_is_explained_by_its_own_places(
    model: ReleasedModel, trained: Path, strangers: Path, tmp_path: Path
) -> None:
    patient = load_manifest(strangers, 32, model.modalities, classes=CLASSES).patients[0]
    logits = model.logits([patient])[0]
    assert explain(model, patient).of_class == CLASSES[int(logits.argmax())]
    shown = [explain(model, patient, of_class=name) for name in CLASSES]
    for each, logit in zip(shown, logits.tolist(), strict=True):
        assert each.logit == pytest.approx(logit, abs=1e-5)
        assert each.contributions.sum() == pytest.approx(logit, abs=1e-5)
    assert sum(each.probability for each in shown) == pytest.approx(1)
    assert not np.allclose(shown[0].contributions, shown[1].contributions)
    words = ("--patient", patient.patient_id, "--class", "abscess", "--out", tmp_path / "look")
    said = call("explain", trained, strangers, *words)
    assert f"probability of abscess {shown[3].probability:.3f}" in said
    page = (tmp_path / "look" / "index.html").read_text()
    assert "Of class abscess" in page
    assert "speaks for abscess" in page
    with pytest.raises(DataError, match="no class 'glioma'"):
        explain(model, patient, of_class="glioma")


def test_the_model_file_carries_its_classes(model: ReleasedModel) -> None:
    assert model.classes == CLASSES
    assert "several classes" in model.uncalibrated


def test_a_line_has_a_probability_for_each_class_and_the_one_that_is_called(
    trained: Path, model: ReleasedModel, strangers: Path, tmp_path: Path
) -> None:
    out = tmp_path / "predictions.csv"
    call("predict", trained, strangers, "--anyway", "--out", out)
    with out.open() as file:
        rows = list(csv.DictReader(file))
    names = [f"probability_{name}" for name in CLASSES]
    patients = load_manifest(strangers, 32, model.modalities, classes=CLASSES).patients
    expected = model.logits(patients).double().softmax(dim=1).numpy()
    found = np.array([[float(row[name]) for name in names] for row in rows])
    assert np.abs(found - expected).max() < 1e-6
    assert [row["called"] for row in rows] == [CLASSES[k] for k in expected.argmax(axis=1)]
    assert "probability" not in rows[0]
    assert "calibrated" not in rows[0]
    assert [row["patient_id"] for row in rows] == [each.patient_id for each in patients]


def test_predictions_are_gone_on_with_and_another_table_is_refused(
    trained: Path, model: ReleasedModel, strangers: Path, tmp_path: Path
) -> None:
    out = tmp_path / "predictions.csv"
    call("predict", trained, strangers, "--anyway", "--out", out)
    whole = out.read_text()
    out.write_text("".join(whole.splitlines(keepends=True)[:10]) + "phantom-1")
    assert "31 of them now" in call("predict", trained, strangers, "--anyway", "--out", out)
    again, at_once = table.read(out, CLASSES), predict(model, strangers, anyway=True)
    assert out.read_text().splitlines()[:10] == whole.splitlines()[:10]
    for one, other in zip(again, at_once, strict=True):
        assert (one.patient_id, one.called) == (other.patient_id, other.called)
        # Other company in a batch adds in another order.
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        assert one.probability == max(one.probabilities)
    for others in ((), ("a", "b", "c")):
        with pytest.raises(DataError, match="of other columns than this version writes for this"):
            table.read(out, others)
    out.write_text("patient_id,age\n1,2\n")
    with pytest.raises(DataError, match="no table of predictions"):
        table.read(out, CLASSES)


def test_two_labels_have_the_columns_that_they_had() -> None:
    assert ",".join(table.columns()) == (
        "patient_id,site,example,unlike,probability,calibrated,calibrated_low,calibrated_high,logit,"
        "slices,missing,model,data"
    )


def test_evaluation_is_of_each_class_against_the_rest(
    trained: Path, model: ReleasedModel, strangers: Path
) -> None:
    """Against scikit-learn, from the probabilities of the same patients."""
    found = json.loads(call("evaluate", trained, strangers, "--json"))
    patients = load_manifest(strangers, 32, model.modalities, classes=CLASSES).patients
    truth = np.array([patient.label for patient in patients])
    logits = model.logits(patients).double()
    probabilities = logits.softmax(dim=1).numpy()
    matrix = confusion_matrix(truth, probabilities.argmax(axis=1), labels=range(4))
    aucs = [roc_auc_score(truth == c, probabilities[:, c]) for c in range(4)]
    for c, one in enumerate(found["classes"]):
        assert one["name"] == CLASSES[c]
        assert one["auc"] == pytest.approx(aucs[c], abs=1e-9)
        assert one["auc_ci95"][0] < one["auc"] < one["auc_ci95"][1]
        assert one["called"] == matrix[c].tolist()
        assert one["sensitivity"]["value"] == matrix[c, c] / matrix[c].sum()
    assert found["auc"] == pytest.approx(np.mean(aucs))
    assert found["accuracy"]["value"] == matrix.trace() / matrix.sum()
    assert found["patients"] == 40
    assert found["trained"] is None  # nobody keeps a list of phantoms
    assert "phantoms" in found["trained_told"]


def test_the_screen_says_who_is_called_what(trained: Path, strangers: Path) -> None:
    shown = call("evaluate", trained, strangers)
    for told in (*CLASSES, "mean AUC", "true class, by the one that is called", "NOT FOR USE"):
        assert told in shown
    assert "whether they trained the model cannot be told" in shown


def test_a_wrong_label_is_named_and_the_others_are_measured(
    trained: Path, strangers: Path, tmp_path: Path
) -> None:
    lines = strangers.read_text().splitlines()
    first = lines[1].split(",")
    odd = [line.replace(f",{first[1]},", ",glioma,", 1) if line.startswith(first[0]) else line
           for line in lines]  # fmt: skip
    path = strangers.with_name("odd.csv")
    path.write_text("\n".join(odd) + "\n")
    shown = call("evaluate", trained, path, code=1)
    assert "label 'glioma' is none of the classes healthy (0), tumour (1)" in shown
    assert "39 patients; each class against the rest" in shown
