"""Weights from files: of torchvision's networks, of public pictures, and for which encoders."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from securefed.errors import ConfigurationError, DataError
from securefed.model import public_images, weight_files
from securefed.model.converted_weights import convert
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.pretraining import Schedule
from securefed.model.vision import models

NETWORKS = (
    "resnet18",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "squeezenet1_1",
    "shufflenet_v2_x1_0",
    "r3d_18",
)


def state_of(name: str, path: Path) -> dict[str, torch.Tensor]:
    """A state dictionary as torchvision gives them out, at random weights."""
    torch.manual_seed(3)
    state: dict[str, torch.Tensor] = models.get_model(name, weights=None).state_dict()
    torch.save(state, path)
    return state


def converted(name: str, folder: Path) -> Path:
    state_of(name, folder / "state.pth")
    out = folder / "weights.safetensors"
    convert(folder / "state.pth", name, "made in a test", "CC0-1.0", out)
    return out


@pytest.mark.parametrize("name", NETWORKS)
def test_torchvisions_weights_become_those_of_every_modality(name: str, tmp_path: Path):
    state, out = state_of(name, tmp_path / "state.pth"), tmp_path / "weights.safetensors"
    convert(tmp_path / "state.pth", name, "made in a test", "CC0-1.0", out)
    torch.manual_seed(0)
    network = FusionNetwork(NetworkShape(encoder=name, image_size=32, width=4))
    bottlenecks = [list(encoder.parameters())[-2].clone() for encoder in network.encoders]
    (origin,) = weight_files.load(network, out)
    sha256 = hashlib.sha256(out.read_bytes()).hexdigest()
    assert origin == weight_files.Origin(sha256, "made in a test", "CC0-1.0")
    first = next(iter(state.values())).sum(1, keepdim=True)
    kept = {tuple(t.shape) for t in state.values()}
    for encoder, bottleneck in zip(network.encoders, bottlenecks, strict=True):
        own = list(encoder.parameters())
        torch.testing.assert_close(own[0].detach(), first)
        assert torch.equal(own[-2], bottleneck)  # which is of the run's own width
        assert {tuple(t.shape) for t in own[1:-2]} <= kept


def test_of_safetensors_the_same_file_comes_out(tmp_path: Path):
    out = converted("squeezenet1_1", tmp_path)
    save_file(state_of("squeezenet1_1", tmp_path / "state.pth"), tmp_path / "s.safetensors")
    again = tmp_path / "again.safetensors"
    convert(tmp_path / "s.safetensors", "squeezenet1_1", "made in a test", "CC0-1.0", again)
    assert load_file(again).keys() == load_file(out).keys()
    assert all(torch.equal(t, load_file(out)[name]) for name, t in load_file(again).items())


class Malicious:
    """What runs a command where a pickle is read without care."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('it ran')",)


@pytest.mark.parametrize(
    "kind",
    [
        *("code", "object", "bytes", "nothing", "no tensors", "other network", "not finite"),
        *("sparse", "without values", "complex"),
    ],
)
def test_a_state_that_is_none_is_refused_and_nothing_in_it_runs(kind: str, tmp_path: Path):
    path, out = tmp_path / "state.pth", tmp_path / "out.safetensors"
    state = state_of("squeezenet1_1", path)
    odd: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "sparse": lambda t: t.to_sparse(),
        "without values": lambda t: t.to("meta"),
        "complex": lambda t: t.to(torch.complex64),
    }
    if kind == "code":
        path.write_bytes(pickle.dumps(Malicious()))
    elif kind == "object":
        torch.save(Malicious(), path)
    elif kind in ("bytes", "nothing"):
        path.write_bytes(path.read_bytes()[:1000] if kind == "bytes" else b"")
    elif kind == "no tensors":
        torch.save({"a": 1}, path)
    elif kind == "not finite":
        key = next(iter(state))
        torch.save(state | {key: torch.full_like(state[key], torch.nan)}, path)
    elif kind in odd:
        key = next(iter(state))
        torch.save(state | {key: odd[kind](state[key])}, path)
    encoder = "resnet18" if kind == "other network" else "squeezenet1_1"
    with pytest.raises(ConfigurationError) as refused:
        convert(path, encoder, "x", "y", out)
    assert refused.value.hint
    assert "weights_only" not in str(refused.value)  # torch's advice is to run what is in it
    assert not out.exists()


def test_weights_of_one_modality_go_before_those_for_all(tmp_path: Path):
    out, shape = converted("squeezenet1_1", tmp_path), NetworkShape("squeezenet1_1", 32, 4)
    torch.manual_seed(1)
    theirs = FusionNetwork(shape).encoders[1].state_dict()
    about = {"encoder": "squeezenet1_1", "width": "4"}
    mri = {f"encoder_mri.{name}": t for name, t in theirs.items()}
    weight_files.write(tmp_path / "mri.safetensors", mri, about)
    torch.manual_seed(0)
    network = FusionNetwork(shape)
    origins = weight_files.load(network, out, tmp_path / "mri.safetensors")
    assert [each.licence for each in origins] == ["CC0-1.0", ""]
    assert all(torch.equal(t, theirs[n]) for n, t in network.encoders[1].state_dict().items())
    with pytest.raises(ConfigurationError, match=r"lacks encoder_ct"):
        weight_files.load(FusionNetwork(shape), tmp_path / "mri.safetensors")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Noise in two folders; in one of them with a bright square."""
    rng = np.random.default_rng(0)
    for kind in ("healthy", "tumour"):
        (tmp_path / "public" / kind).mkdir(parents=True)
        for number in range(50):
            image = rng.integers(20, 90, (40, 40)).astype(np.uint8)
            if kind == "tumour":
                row, column = rng.integers(4, 28, 2)
                image[row : row + 9, column : column + 9] = 240
            Image.fromarray(image).save(tmp_path / "public" / kind / f"{number:03}.png")
    return tmp_path / "public"


def make(pictures: Path, out: Path, without: str = "healthy") -> dict[str, str]:
    return public_images.make(
        out,
        pictures,
        modality="mri",
        without=without,
        source="made in a test",
        licence="CC0-1.0",
        encoder="compact",
        width=4,
        image_size=32,
        schedule=Schedule(epochs=20, batch_size=16),
        seed=1,
        progress=lambda name, share: None,
    )


def test_public_pictures_make_weights_that_say_where_they_are_from(pictures: Path, tmp_path: Path):
    out = tmp_path / "mri.safetensors"
    about = make(pictures, out)
    with safe_open(out, framework="pt") as file:
        assert file.metadata() == about
    assert (about["source"], about["licence"]) == ("made in a test", "CC0-1.0")
    assert (about["images"], about["without_finding"]) == ("100", "healthy")
    assert float(about["encoder_mri_held_out_slice_auc"]) > 0.9
    network = FusionNetwork(NetworkShape(width=4, query="mri", context=()))
    assert weight_files.load(network, out)[0].licence == "CC0-1.0"
    changed = next((pictures / "tumour").iterdir())
    Image.fromarray(np.eye(40, dtype=np.uint8) * 200).save(changed)
    assert make(pictures, out)["images_sha256"] != about["images_sha256"]


def test_pictures_in_no_such_folders_or_too_few_are_refused(pictures: Path, tmp_path: Path):
    with pytest.raises(DataError, match="there is no folder normal") as refused:
        make(pictures, tmp_path / "out", without="normal")
    assert "healthy and tumour" in str(refused.value)
    with pytest.raises(DataError, match="there is no folder healthy"):
        make(tmp_path / "nowhere", tmp_path / "out")
    for path in sorted((pictures / "tumour").iterdir())[:30]:
        path.unlink()
    with pytest.raises(DataError, match="16 pictures to train on with a finding"):
        make(pictures, tmp_path / "out")
    (pictures / "healthy" / "000.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"000\.png"):
        make(pictures, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["source", "licence", "other"])
def test_weights_that_would_speak_to_a_terminal_are_refused(where: str, tmp_path: Path):
    network = FusionNetwork(NetworkShape(image_size=32, width=4))
    path = tmp_path / "weights.safetensors"
    about = {"encoder": "compact", "width": "4", where: "public\x1b[2J"}
    save_file({"encoder.layers.0.weight": torch.zeros(1)}, path, about)
    with pytest.raises(ConfigurationError, match="control characters"):
        weight_files.load(network, path)
