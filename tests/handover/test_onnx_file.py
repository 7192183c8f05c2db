"""A model as ONNX: equal on real patients of every kind, with its papers and no traces."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from securefed.data.load import load_manifest
from securefed.errors import ConfigurationError
from securefed.handover.onnx_file import onnx_file
from securefed.handover.papers import papers
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model_card.card import of_model
from securefed.prediction.model import ReleasedModel, load_model
from securefed.training.patients import stack
from tests.prediction.conftest import strangers, trained

__all__ = ["strangers", "trained"]  # fixtures
onnx = pytest.importorskip("onnx", reason="needs the extra export")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra export")
pytest.importorskip("onnxscript", reason="needs the extra export")


@pytest.fixture(scope="module")
def model(trained: Path) -> ReleasedModel:
    return load_model(trained)


@pytest.fixture(scope="module")
def content(model: ReleasedModel, trained: Path) -> bytes:
    return onnx_file(model.network, papers(model, of_model(trained)))


@pytest.fixture(scope="module")
def session(content: bytes) -> Any:
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def test_patients_with_and_without_a_modality_get_the_model_s_logits(
    model: ReleasedModel, strangers: Path, session: Any
) -> None:
    patients = load_manifest(strangers, 32, model.modalities).patients
    acquired = {tuple(bool(there.any()) for _, _, there in patient) for patient in patients}
    assert acquired == {(True, True), (True, False), (False, True)}
    group = stack(patients, model.max_slices)
    named = {"images": group.images.numpy(), "present": group.present.numpy()}
    (logits,) = session.run(["logits"], named)
    assert np.allclose(logits, model.logits(patients).numpy(), atol=1e-5)


def test_slices_of_one_patient_may_lack_different_modalities(
    model: ReleasedModel, session: Any
) -> None:
    present = torch.tensor([[[True, False, True, False], [True, True, False, False]]])
    images = torch.randint(0, 256, (1, 2, 4, 32, 32), dtype=torch.uint8) * present[..., None, None]
    images = images.to(torch.uint8)
    (logits,) = session.run(None, {"images": images.numpy(), "present": present.numpy()})
    assert logits == pytest.approx(model.network(images, present).numpy(), abs=1e-5)


def test_of_several_classes_each_has_a_logit() -> None:
    shape = NetworkShape(image_size=16, classes=("none", "glioma", "abscess"))
    network = FusionNetwork(shape).eval().requires_grad_(False)
    read = onnx.load_from_string(onnx_file(network, {}))  # which it held against the network
    (logits,) = read.graph.output
    assert [each.dim_value for each in logits.type.tensor_type.shape.dim][1:] == [3]


def test_its_papers_stand_in_the_metadata(model: ReleasedModel, content: bytes) -> None:
    read = onnx.load_from_string(content)
    onnx.checker.check_model(read, full_check=True)
    told = {each.key: each.value for each in read.metadata_props}
    assert told["securefed-digest"] == model.digest
    assert json.loads(told["securefed-modalities"]) == ["ct", "mri"]
    assert json.loads(told["securefed-cautions"]) == list(model.cautions)
    assert json.loads(told["securefed-about"])["max_slices"] == "4"
    assert "32 by 32 pixels" in told["securefed-preprocessing"]
    card = json.loads(told["securefed-card-json"])
    assert card["details"]["model"] == model.digest
    assert told["securefed-card"].startswith(f"# Model card: {model.digest[:16]}")
    assert [each.name for each in read.graph.input] == ["images", "present"]


def test_nothing_in_it_says_where_it_was_made(content: bytes) -> None:
    for place in (str(Path(__file__).parents[2]), "site-packages", str(Path.home())):
        assert place.encode() not in content


def test_without_the_extra_it_is_said_how_to_get_it(
    model: ReleasedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigurationError, match="--onnx needs") as refused:
        onnx_file(model.network, {})
    assert refused.value.hint == "pip install 'securefed[export]'"
