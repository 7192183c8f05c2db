"""The shipped encoders: small, honest about their origin, good on hospitals nobody trained on."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score

from securefed.data.phantom import PhantomSpec
from securefed.data.phantom_settings import SHOWS
from securefed.errors import ConfigurationError
from securefed.model import public_weights, weight_files
from securefed.model.encoders import encode
from securefed.model.network import FusionNetwork, NetworkShape, encoder_of
from securefed.model.pretraining import Schedule

MakeNetwork = Callable[..., FusionNetwork]
ENCODER_PARTS = ("encoder_ct.", "encoder_mri.")


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as weights:
        return weights.metadata()


@cache
def _public(
    first_site: int,
    sites: int,
    patients: int,
    seed: int,
    modalities: tuple[str, ...] = ("ct", "mri"),
) -> dict[str, public_weights.PublicSet]:
    spec = PhantomSpec(modalities, missing_query=0.0, missing_context=0.0)
    indices = range(first_site, first_site + sites)
    return public_weights.public_phantoms(spec, indices, patients, seed)


def test_the_shipped_file_loads_into_the_encoders_alone_and_names_its_digest():
    network = FusionNetwork(NetworkShape())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    path = weight_files.shipped("ct")
    (origin,) = weight_files.load(network, path)
    assert origin.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "no pairs" in origin.source
    stored = load_file(path)
    for name, value in network.state_dict().items():
        if name.startswith(ENCODER_PARTS):
            assert torch.equal(value, stored[name].float()), name
            assert not torch.equal(value, before[name]), name
        else:
            assert torch.equal(value, before[name]), name


def test_the_shipped_file_is_small_and_says_where_it_is_from():
    path = weight_files.shipped("ct")
    assert path.stat().st_size < 300_000
    about = _metadata(path)
    assert (about["encoder"], about["width"], about["image_size"]) == ("compact", "8", "64")
    assert "no pairs" in about["source"]
    phantom: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in json.loads(about["phantom"]).items()
    }
    assert phantom.pop("missing_ct") == phantom.pop("missing_mri") == 0  # as they were called
    assert PhantomSpec(**phantom)
    assert Schedule(**json.loads(about["schedule"])).epochs >= 1
    assert int(about["patients"]) > 0
    assert int(about["seed"]) >= 0
    for name in ("encoder_ct", "encoder_mri"):
        assert 0.95 < float(about[f"{name}_held_out_slice_auc"]) <= 1.0


def test_public_sites_are_no_runs_hospitals():
    assert not set(public_weights.PUBLIC_SITES) & set(public_weights.HELD_OUT_SITES)
    assert min(*public_weights.PUBLIC_SITES, *public_weights.HELD_OUT_SITES) > 1000


def _largest_features(encoder: torch.nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(slices, size, size) -> (slices, 2 * width): each feature's extremes over the places."""
    with torch.no_grad():
        tokens = encode(encoder, torch.from_numpy(images).float() / 255)
    return torch.cat([tokens.amax(1), -tokens.amin(1)], dim=1).numpy()


@pytest.mark.parametrize("modality", SHOWS)
def test_shipped_features_find_the_evidence_on_fresh_hospitals(modality: str):
    network = FusionNetwork(NetworkShape(query=modality, context=()))
    weight_files.load(network, weight_files.shipped(modality))
    encoder = network.get_submodule(encoder_of(modality))
    # The feature to look at is chosen on some hospitals and judged on others.
    shown = ("ct", "mri") if modality in ("ct", "mri") else (modality, "ct")
    seen, fresh = _public(1_002_000, 2, 8, 71, shown), _public(1_001_000, 4, 8, 72, shown)
    features, truth = (
        (_largest_features(encoder, each[modality].images), each[modality].evidence)
        for each in (seen, fresh)
    )
    aucs = [roc_auc_score(features[1], column) for column in features[0].T]
    assert roc_auc_score(truth[1], truth[0][:, int(np.argmax(aucs))]) > 0.95


def test_the_same_features_at_random_find_much_less():
    """The null of the test above: not every encoder passes it."""
    torch.manual_seed(0)
    network, fresh = FusionNetwork(NetworkShape()), _public(1_001_000, 4, 8, 72)
    features = _largest_features(network.get_submodule("encoder_mri"), fresh["mri"].images)
    assert max(roc_auc_score(fresh["mri"].evidence, column) for column in features.T) < 0.9


def _make(path: Path, seed: int = 4) -> dict[str, str]:
    return public_weights.make(
        path,
        modalities=("ct", "mri"),
        encoder="compact",
        width=4,
        image_size=32,
        patients=20,
        schedule=Schedule(epochs=1, batch_size=32),
        seed=seed,
        progress=lambda name, share: None,
    )


def test_making_weights_again_gives_the_same_file_and_it_fits_such_a_network(
    tmp_path: Path, make_network: MakeNetwork
):
    first, again = tmp_path / "first.safetensors", tmp_path / "again.safetensors"
    about = _make(first)
    _make(again)
    assert first.read_bytes() == again.read_bytes()
    assert _metadata(first) == about
    assert about["seed"] == "4"
    assert json.loads(about["phantom"])["image_size"] == 32
    assert json.loads(about["schedule"]) == asdict(Schedule(epochs=1, batch_size=32))
    network = make_network(width=4)
    weight_files.load(network, first)
    stored = load_file(first)["encoder_mri.layers.0.weight"]
    assert stored.dtype == torch.float16
    assert torch.equal(network.state_dict()["encoder_mri.layers.0.weight"], stored.float())


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
        weight_files.load(network, weight_files.shipped("ct"))
    assert refused.value.hint
    assert "model.initialisation: random" in refused.value.hint
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_missing_or_damaged_file_is_refused(tmp_path: Path, make_network: MakeNetwork):
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(weight_files.shipped("ct").read_bytes()[:-100])
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
    tensors, key = load_file(weight_files.shipped("ct")), "encoder_mri.layers.0.weight"
    changed = {
        "half": _without(tensors, key),
        "foreign": {**tensors, "classifier.output.bias": torch.ones(1)},
        "shape": {**tensors, key: tensors[key][:, :, :2].contiguous()},
        "complex": {**tensors, key: tensors[key].to(torch.complex64)},
        "not finite": {**tensors, key: torch.full_like(tensors[key], torch.nan)},
    }[damage]
    path = tmp_path / "changed.safetensors"
    save_file(changed, path, metadata=_metadata(weight_files.shipped("ct")))
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
        weight_files.load(make_network(), weight_files.shipped("ct"))


def test_files_of_several_modalities_are_laid_together_and_have_one_digest():
    network = FusionNetwork(NetworkShape(query="pet", context=("ct",)))
    pet, pair = weight_files.shipped("pet"), weight_files.shipped("ct")
    digest = weight_files.digest(weight_files.load(network, pet, pair))
    both = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in (pet, pair))
    assert digest == hashlib.sha256(both).hexdigest()
    stored = load_file(pet) | load_file(pair)
    for name, value in network.state_dict().items():
        if name.startswith("encoder_"):
            assert torch.equal(value, stored[name].float()), name


def test_of_a_modality_without_weights_the_way_out_is_said():
    with pytest.raises(ConfigurationError, match="no public weights of x9") as refused:
        weight_files.shipped("x9")
    assert "random" in str(refused.value.hint)
