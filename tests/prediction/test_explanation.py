"""An explanation is of the answer that predict gives, and its parts sum to it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from securefed.data.load import load_manifest
from securefed.data.samples import Example, Patient
from securefed.errors import DataError
from securefed.prediction.explanation import Place, explain
from securefed.prediction.model import ReleasedModel, load_model
from tests.prediction.conftest import strangers, trained

__all__ = ["strangers", "trained"]  # fixtures


@pytest.fixture(scope="module")
def model(trained: Path) -> ReleasedModel:
    return load_model(trained)


@pytest.fixture(scope="module")
def patients(model: ReleasedModel, strangers: Path) -> list[Patient]:
    return load_manifest(strangers, 32, model.modalities).patients


def test_contributions_sum_to_the_logit_of_predict_for_every_patient(
    model: ReleasedModel, patients: list[Patient]
) -> None:
    logits = model.logits(patients).tolist()
    for patient, logit in zip(patients, logits, strict=True):
        shown = explain(model, patient)
        assert shown.logit == pytest.approx(logit, abs=1e-5)
        assert shown.contributions.sum() == pytest.approx(logit, abs=1e-5)
        assert shown.logits[shown.place.slice].max() == shown.logits.max()


def test_attention_is_what_the_network_attends_with_and_of_no_missing_context(
    model: ReleasedModel, patients: list[Patient]
) -> None:
    for patient in patients:
        shown = explain(model, patient)
        there = patient.present_of("mri")[shown.numbers[shown.place.slice]]
        assert set(shown.attention) == ({"mri"} if there else set())
        for each in shown.attention.values():
            assert each.sum() == pytest.approx(1, abs=1e-6)


def test_the_attention_of_a_network_mixes_the_values_to_what_its_fusion_gives(
    model: ReleasedModel, patients: list[Patient]
) -> None:
    network = model.network
    whole = next(patient for patient in patients if patient.present.all())
    group = model.stacked([whole])
    with torch.no_grad():
        tokens = network.encode(group.images.float() / 255, group.present)
        weights = network.fusion.attention(tokens, group.present)["mri"]
        values = network.fusion.get_submodule("value_mri")(tokens[:, 1])
        fused = network.fusion(tokens, group.present)[..., network.shape.width :]
    assert torch.allclose(weights @ values, fused, atol=1e-5)


def test_a_place_and_a_slice_can_be_asked_for(
    model: ReleasedModel, patients: list[Patient]
) -> None:
    last = int(explain(model, patients[0]).numbers[-1])
    shown = explain(model, patients[0], at=(2, 1), in_slice=last)
    assert shown.place == Place(len(shown.numbers) - 1, 2, 1)
    alone = explain(model, patients[0], at=(2, 1))
    assert (alone.place.row, alone.place.column) == (2, 1)
    assert alone.contributions[alone.place.slice, 2, 1] == alone.contributions[:, 2, 1].max()


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"at": (4, 0)}, "no place 5 1: rows and columns go from 1 to 4"),
        ({"in_slice": 99}, "did not look at slice 100"),
        ({"example": "b"}, "has no example 'b'"),
    ],
)
def test_what_is_not_there_is_refused(
    asked: dict[str, object], text: str, model: ReleasedModel, patients: list[Patient]
) -> None:
    with pytest.raises(DataError, match=text):
        explain(model, patients[0], **asked)  # type: ignore[arg-type]


def test_of_a_patient_with_several_examples_one_is_explained(
    model: ReleasedModel, patients: list[Patient]
) -> None:
    patient = next(each for each in patients if each.slices > 4)
    parts = (
        Example("first", 0, (0,)),
        Example("others", patient.label, tuple(range(1, patient.slices))),
    )
    several = replace(patient.with_examples(parts), patient_id="several")
    with pytest.raises(DataError, match="has several examples; there are first and others"):
        explain(model, several)
    logits = model.logits([several]).tolist()
    for name, logit in zip(("first", "others"), logits, strict=True):
        shown = explain(model, several, name)
        assert shown.contributions.sum() == pytest.approx(logit, abs=1e-5)
    assert np.array_equal(explain(model, several, "first").numbers, [0])
