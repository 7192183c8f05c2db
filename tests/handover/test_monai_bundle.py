"""A model as a MONAI bundle: MONAI reads it, checks it and runs it."""

import csv
import json
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from securefed.data.load import load_manifest
from securefed.handover.monai_bundle import write_bundle
from securefed.handover.papers import papers
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model_card.card import of_model
from securefed.prediction.model import ReleasedModel, load_model
from securefed.training.patients import stack
from tests.prediction.conftest import strangers, trained

__all__ = ["strangers", "trained"]  # fixtures


@pytest.fixture(scope="module")
def model(trained: Path) -> ReleasedModel:
    return load_model(trained)


@pytest.fixture(scope="module")
def bundle(model: ReleasedModel, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    write_bundle(folder, model, papers(model, of_model(trained)))
    return folder


def test_it_says_what_goes_in_and_why_not_to_use_it(model: ReleasedModel, bundle: Path) -> None:
    about = json.loads((bundle / "configs/metadata.json").read_text())
    image = about["network_data_format"]["inputs"]["image"]
    assert image["channel_def"] == {"0": "ct", "1": "mri"}
    assert image["spatial_shape"] == [32, 32, "n"]
    assert about["securefed"]["securefed-digest"] == model.digest
    for text in (about["intended_use"], (bundle / "docs/README.md").read_text()):
        assert "made-up patients" in text


def test_nothing_in_it_is_a_pickle_or_says_where_it_was_made(bundle: Path) -> None:
    with zipfile.ZipFile(bundle / "models/model.pt2") as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert name.endswith((".json", "version", "archive_format", "byteorder", "_id")) or (
                "weight_" in name or "tensor_" in name or not content
            )
            for place in (str(Path(__file__).parents[2]), "site-packages"):
                assert place.encode() not in content


def test_monai_checks_it_and_predicts_with_it_as_the_model_does(
    model: ReleasedModel, bundle: Path, strangers: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's own, on import
        monai_bundle = pytest.importorskip("monai.bundle", reason="needs the extra monai")
        patients = load_manifest(strangers, 32, model.modalities).patients[:6]
        assert not all(patient.present.all() for patient in patients)
        (bundle / "data").mkdir()
        for number, patient in enumerate(patients):
            group = stack([patient], model.max_slices)
            volume = group.images[0].movedim(1, -1).numpy()
            np.save(bundle / "data" / f"{number}.npy", volume.astype(np.float32))
        config = str(bundle / "configs/inference.json")
        monai_bundle.verify_net_in_out(
            net_id="network_def",
            meta_file=str(bundle / "configs/metadata.json"),
            config_file=config,
            device="cpu",
            p=1,
            n=3,
            any=3,
            bundle_root=str(bundle),
        )
        monai_bundle.run(config_file=config, bundle_root=str(bundle))
    with (bundle / "predictions.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    expected = torch.sigmoid(model.logits(patients)).tolist()
    assert [float(row["tumour"]) for row in rows] == pytest.approx(expected, abs=1e-5)


def test_of_several_classes_each_has_a_channel(
    model: ReleasedModel, trained: Path, tmp_path: Path
) -> None:
    shape = NetworkShape(image_size=32, classes=("none", "glioma", "abscess"))
    several = replace(model, network=FusionNetwork(shape).eval().requires_grad_(False))
    write_bundle(tmp_path, several, papers(several, of_model(trained)))
    about = json.loads((tmp_path / "configs/metadata.json").read_text())
    pred = about["network_data_format"]["outputs"]["pred"]
    assert pred["num_channels"] == 3
    assert pred["channel_def"]["1"] == "logit of glioma"
    inference = json.loads((tmp_path / "configs/inference.json").read_text())
    assert inference["columns"] == ["none", "glioma", "abscess"]
    assert "softmax" in inference["normalise"]
