"""The shipped encoder: small, honest about its origin, good on hospitals nobody trained on."""

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from securefed.data.phantom import PhantomPatient, PhantomSpec, SiteProfile, generate
from securefed.data.phantom_settings import SHOWS
from securefed.errors import ConfigurationError
from securefed.model import weight_files
from securefed.model.encoders import encode
from securefed.model.network import FusionNetwork, NetworkShape, encoder_of
from securefed.model.pretraining import Schedule

MakeNetwork = Callable[..., FusionNetwork]


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as weights:
        return weights.metadata()


@cache
def _patients(first_site: int, sites: int, modalities: tuple[str, ...]) -> list[PhantomPatient]:
    spec = PhantomSpec(modalities, missing_query=0.0, missing_context=0.0)
    profiles = [SiteProfile.draw(spec, first_site + number, 71) for number in range(sites)]
    return [patient for profile in profiles for patient in generate(spec, profile, 8, 71)]


def test_the_shipped_file_loads_into_every_encoder_alone_and_names_its_digest():
    network = FusionNetwork(NetworkShape(query="spect", context=("ct", "x9")))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    path = weight_files.shipped()
    (origin,) = weight_files.load(network, path)
    assert origin.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "no anatomy" in origin.source
    stored = load_file(path)
    for name, value in network.state_dict().items():
        if name.startswith("encoder_"):
            assert torch.equal(value, stored[f"encoder.{name.split('.', 1)[1]}"].float()), name
            assert not torch.equal(value, before[name]), name
        else:
            assert torch.equal(value, before[name]), name


def test_the_shipped_file_is_small_and_says_where_it_is_from():
    path = weight_files.shipped()
    assert path.stat().st_size < 150_000
    about = _metadata(path)
    assert (about["encoder"], about["width"], about["image_size"]) == ("compact", "8", "64")
    assert Schedule(**json.loads(about["schedule"])) == Schedule(epochs=6)
    assert (about["scenes"], about["seed"]) == ("32000", "2026")  # as securefed pretrain has them
    for kind in ("light_spot", "light_patch", "dark_spot", "dark_patch"):
        assert 0.9 < float(about[f"encoder_held_out_{kind}_auc"]) <= 1.0


def _largest_features(encoder: torch.nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(slices, size, size) -> (slices, 2 * width): each feature's extremes over the places."""
    with torch.no_grad():
        tokens = encode(encoder, torch.from_numpy(images).float() / 255)
    return torch.cat([tokens.amax(1), -tokens.amin(1)], dim=1).numpy()


@pytest.mark.parametrize("modality", SHOWS)
def test_shipped_features_find_the_evidence_on_fresh_hospitals(modality: str):
    network = FusionNetwork(NetworkShape(query=modality, context=()))
    weight_files.load(network, weight_files.shipped())
    least = 0.9 if modality in ("pet", "spect") else 0.94  # tracers are blurred
    assert _found(network.get_submodule(encoder_of(modality)), modality) > least


def test_the_same_features_at_random_find_much_less():
    """The null of the test above: not every encoder passes it."""
    torch.manual_seed(0)
    network = FusionNetwork(NetworkShape())
    assert _found(network.get_submodule("encoder_mri"), "mri") < 0.9


def _found(encoder: torch.nn.Module, modality: str) -> float:
    """AUC over slices of a linear readout, fitted on some hospitals and judged on others."""
    shown = ("ct", "mri") if modality in ("ct", "mri") else (modality, "ct")
    features, truth = [], []
    for patients in (_patients(2_000, 4, shown), _patients(1_000, 4, shown)):
        images = np.concatenate([each.patient.images_of(modality) for each in patients])
        features.append(_largest_features(encoder, images))
        truth.append(np.concatenate([each.evidence_of(modality) for each in patients]))
    readout = make_pipeline(StandardScaler(), LogisticRegression()).fit(features[0], truth[0])
    return float(roc_auc_score(truth[1], readout.decision_function(features[1])))


@pytest.mark.parametrize(
    ("shape", "says"),
    [({"width": 16}, r"model.width 8, not 16"), ({"encoder": "resnet18"}, "model.encoder compact")],
)
def test_weights_for_another_network_are_refused_by_key_and_change_nothing(
    shape: dict[str, str | int], says: str, make_network: MakeNetwork
):
    network = make_network(**shape)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ConfigurationError, match=says) as refused:
        weight_files.load(network, weight_files.shipped())
    assert refused.value.hint
    assert "model.initialisation: random" in refused.value.hint
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_missing_or_damaged_file_is_refused(tmp_path: Path, make_network: MakeNetwork):
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(weight_files.shipped().read_bytes()[:-100])
    for path in (tmp_path / "none.safetensors", damaged, tmp_path):
        with pytest.raises(
            ConfigurationError, match=f"cannot read public weights {path.name}"
        ) as e:
            weight_files.load(make_network(), path)
        assert e.value.hint


def _without(tensors: dict[str, torch.Tensor], key: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in tensors.items() if name != key}


@pytest.mark.parametrize("damage", ["half", "foreign", "shape", "complex", "not finite"])
def test_weights_that_are_not_the_encoders_whole_and_alone_are_refused(
    damage: str, tmp_path: Path, make_network: MakeNetwork
):
    tensors, key = load_file(weight_files.shipped()), "encoder.layers.0.weight"
    changed = {
        "half": _without(tensors, key),
        "foreign": {**tensors, "classifier.output.bias": torch.ones(1)},
        "shape": {**tensors, key: tensors[key][:, :, :2].contiguous()},
        "complex": {**tensors, key: tensors[key].to(torch.complex64)},
        "not finite": {**tensors, key: torch.full_like(tensors[key], torch.nan)},
    }[damage]
    path = tmp_path / "changed.safetensors"
    save_file(changed, path, metadata=_metadata(weight_files.shipped()))
    network = make_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ConfigurationError, match=r"changed\.safetensors"):
        weight_files.load(network, path)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_file_that_is_too_large_is_not_read(
    monkeypatch: pytest.MonkeyPatch, make_network: MakeNetwork
):
    monkeypatch.setattr(weight_files, "MOST_BYTES", 1000)
    with pytest.raises(ConfigurationError, match="has more than"):
        weight_files.load(make_network(), weight_files.shipped())


def test_weights_of_a_modality_go_before_those_for_all_and_both_have_one_digest(tmp_path: Path):
    shipped, own = weight_files.shipped(), tmp_path / "pet.safetensors"
    pet = {
        name.replace("encoder.", "encoder_pet.", 1): -value
        for name, value in load_file(shipped).items()
    }
    save_file(pet, own, metadata=_metadata(shipped))
    network = FusionNetwork(NetworkShape(query="pet", context=("ct",)))
    digest = weight_files.digest(weight_files.load(network, own, shipped))
    both = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in (own, shipped))
    assert digest == hashlib.sha256(both).hexdigest()
    for name, value in network.state_dict().items():
        if name.startswith("encoder_pet."):
            assert torch.equal(value, pet[name].float()), name
        elif name.startswith("encoder_ct."):
            stored = load_file(shipped)[f"encoder.{name.split('.', 1)[1]}"]
            assert torch.equal(value, stored.float()), name
