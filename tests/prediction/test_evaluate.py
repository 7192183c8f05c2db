"""An evaluation's groups, by hand and against other libraries."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from securefed.errors import DataError
from securefed.prediction import table
from securefed.prediction.evaluate import Labelled, groups
from securefed.prediction.table import NOT_KNOWN, Prediction

ANSWER = Prediction("", "a", "", "", 0.5, None, None, None, 0.0, 1, "", "", "")


def drawn(
    patients: int, sexes: str = "", calibrated: float | None = None, strange: range = range(0)
) -> Labelled:
    random = np.random.default_rng(5)
    labels = random.integers(0, 2, patients)
    logits = 2.0 * labels - 1 + random.normal(size=patients)
    predictions = [
        Prediction(
            patient_id=str(number),
            site="ab"[number % 2],
            example="",
            unlike="ct is unlike" if number in strange else "",
            probability=1 / (1 + np.exp(-each)),
            calibrated=calibrated and 1 / (1 + np.exp(-each / 2)),
            calibrated_low=calibrated,
            calibrated_high=calibrated,
            logit=each,
            slices=1,
            missing="mri" if number % 20 == 0 else "",
            model="",
            data="",
        )
        for number, each in enumerate(logits)
    ]
    further = {"sex": {(str(number), ""): each for number, each in enumerate(sexes)}}
    return Labelled.of(predictions, labels.tolist(), ("ct", "mri"), further if sexes else None)


def test_groups_are_everybody_then_sites_then_what_was_acquired() -> None:
    of = drawn(100)
    found = list(groups(of))
    assert [(each.column, each.value) for each in found] == [
        ("all", "all"),
        ("site", "a"),
        ("site", "b"),
        ("modalities", "ct"),
        ("modalities", "ct+mri"),
    ]
    everybody = found[0].figures
    assert everybody
    auc = roc_auc_score(of.positive, of.probability)
    assert everybody.auc == pytest.approx(auc)
    assert everybody.auc_ci95[0] < auc < everybody.auc_ci95[1]
    # Five patients lack an MRI: of one label there are fewer than five, which would tell of a few;
    # and what is left of all patients without the others would tell the same.
    few, others = found[3:]
    assert (few.withheld, few.patients, few.figures) == (True, None, None)
    assert others.withheld


def test_a_column_that_was_asked_for_makes_groups_at_everybodys_thresholds() -> None:
    found = list(groups(drawn(200, sexes="ffmm" * 49)))  # four patients have none
    by_sex = [each for each in found if each.column == "sex"]
    assert [(each.value, each.withheld) for each in by_sex] == [
        ("f", True),  # beside the four that have none, who are few
        ("m", False),
        ("not given", True),
    ]
    everybody = found[0].figures
    men = by_sex[1].figures
    assert everybody
    assert men
    assert [each.threshold for each in men.operating_points] == [
        each.threshold for each in everybody.operating_points
    ]
    assert men.operating_points[1].rule == "specificity at least 0.9 of all"


def test_calibrated_probabilities_have_an_error_of_their_own_in_the_same_bins() -> None:
    network, mended = (next(groups(drawn(400, calibrated=each))).figures for each in (None, 0.5))
    assert network is not None
    assert mended is not None
    assert (network.calibrated_error, network.reliability[0].calibrated) == (None, None)
    assert mended.calibration_error == network.calibration_error
    bins = mended.reliability
    off = [each.patients * abs((each.calibrated or 0) - each.observed) for each in bins]
    assert mended.calibrated_error == pytest.approx(sum(off) / 400)
    # These logits are halved wrongly.
    assert (mended.calibrated_error or 0) > mended.calibration_error
    for each, before in zip(bins, network.reliability, strict=True):
        assert each.calibrated is not None
        assert abs(each.calibrated - 0.5) < abs(each.predicted - 0.5)
        assert each.predicted == before.predicted


def test_patients_with_scans_unlike_the_training_s_are_a_group_of_their_own() -> None:
    assert "scans" not in drawn(100).columns
    of = drawn(100, strange=range(40))
    assert of.unlike == 40
    found = {(each.column, each.value): each.patients for each in groups(of)}
    assert found["scans", "unlike"] == 40
    assert found["scans", "like"] == 60
    assert found["all", "all"] == 100  # they are in the figures of all


def test_of_one_site_and_one_kind_of_patient_there_is_one_group() -> None:
    of = drawn(20)
    alone = Labelled(of.probability, of.positive, of.patient, of.weight, {"site": ("a",) * 20})
    assert len(list(groups(alone))) == 1


def test_a_column_of_single_patients_is_no_grouping() -> None:
    with pytest.raises(DataError, match="column sex has 21 values"):
        drawn(40, sexes="abcdefghijklmnopqrstu" + "a" * 19)


def test_one_label_is_no_evaluation() -> None:
    alike = [replace(ANSWER, patient_id=f"p{each}") for each in range(2)]
    with pytest.raises(DataError, match="needs both labels"):
        Labelled.of(alike, [1, 1], ("ct", "mri"))


@pytest.mark.parametrize("classes", [(), ("healthy", "glioma")])
def test_a_withheld_answer_leaves_no_number_in_the_table_and_comes_back(
    tmp_path: Path, classes: tuple[str, ...]
) -> None:
    given = replace(ANSWER, patient_id="a", model="m", data="d", site="s", unlike=NOT_KNOWN)
    if classes:
        given = replace(given, called="glioma", probabilities=(0.5, 0.5), logits=(0.0, 0.0))
    strange = replace(given, patient_id="b", unlike="ct is unlike")
    assert given.withheld == given
    table.append(tmp_path / "p.csv", [given, strange.withheld], classes)
    text = (tmp_path / "p.csv").read_text().splitlines()
    assert "0.5" in text[1]
    assert not any(each in text[2] for each in ("0.5", "0.0", "glioma"))
    assert table.read(tmp_path / "p.csv", classes) == [given, strange.withheld]
