"""Weights from scenes: learnt, repeatable, for every modality, standardised."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from securefed.data import scenes
from securefed.model import public_scenes, weight_files
from securefed.model.encoders import encode
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.pretraining import Schedule


def make(path: Path, **changed: int) -> dict[str, str]:
    settings = {"scenes": 400, "width": 8, "image_size": 32, "seed": 3} | changed
    return public_scenes.make(
        path,
        encoder="compact",
        schedule=Schedule(epochs=6, batch_size=32),
        progress=lambda name, share: None,
        **settings,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    path = tmp_path_factory.mktemp("scenes") / "scenes.safetensors"
    return path, make(path)


def test_places_of_held_out_scenes_are_told(made: tuple[Path, dict[str, str]]) -> None:
    _, about = made
    assert float(about["encoder_held_out_mean_r2"]) > 0.6
    assert float(about["encoder_held_out_light_patch_auc"]) > 0.6


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one", "again")]
    for path in files:
        make(path, scenes=100)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_one_encoder_serves_every_modality(made: tuple[Path, dict[str, str]]) -> None:
    path, _ = made
    network = FusionNetwork(NetworkShape(query="pet", context=("ct", "x9")))
    (origin,) = weight_files.load(network, path)
    assert "no anatomy" in origin.source
    stored = load_file(path)
    for modality in ("pet", "ct", "x9"):
        own = network.get_submodule(f"encoder_{modality}").state_dict()
        assert all(
            torch.equal(value, stored[f"encoder.{key}"].float()) for key, value in own.items()
        )


def test_features_are_standardised_over_scenes(made: tuple[Path, dict[str, str]]) -> None:
    network = FusionNetwork(NetworkShape())
    weight_files.load(network, made[0])
    images = torch.from_numpy(scenes.draw(400, 32, 4, 3).images).float() / 255
    with torch.no_grad():
        tokens = encode(network.get_submodule("encoder_ct"), images).flatten(0, -2)
    torch.testing.assert_close(tokens.mean(0), torch.zeros(8), atol=0.02, rtol=0)  # half precision
    torch.testing.assert_close(tokens.std(0), torch.ones(8), atol=0.02, rtol=0)
