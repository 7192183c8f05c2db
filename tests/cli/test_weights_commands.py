"""`securefed pretrain --images`, `securefed convert-weights` and `securefed run --weights`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from securefed.cli.app import cli
from securefed.errors import ConfigurationError
from securefed.model.vision import models
from tests.tiny import tiny

SAID = ("--origin", "made in a test", "--licence", "CC0-1.0")


def command(*words: object) -> str:
    """What it prints; its error as raised."""
    found = CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def test_a_run_starts_from_weights_made_of_pictures_and_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind in ("healthy", "tumour"):
        (tmp_path / "public" / kind).mkdir(parents=True)
        for number in range(30):
            image = rng.integers(20, 90 if kind == "healthy" else 250, (32, 32)).astype(np.uint8)
            Image.fromarray(image).save(tmp_path / "public" / kind / f"{number}.png")
    for name in ("ct", "mri"):
        words = ("--images", tmp_path / "public", "--without", "healthy", *SAID)
        sizes = ("--width", 4, "--image-size", 32, "--epochs", 1, "--modality", name)
        told = command("pretrain", "--out", tmp_path / f"{name}.safetensors", *words, *sizes)
        assert f"encoder_{name}_held_out_slice_auc" in told
    settings = tiny(
        model={"image_size": 32, "width": 4},
        privacy={"dp": False},
        federation={"clients": 2, "rounds": 1},
        secure_aggregation={"enabled": False},
    )
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings))
    files = [
        word for name in ("ct", "mri") for word in ("--weights", tmp_path / f"{name}.safetensors")
    ]
    command("run", "--config", tmp_path / "tiny.yaml", *files, "--out", tmp_path / "run")
    model = json.loads((tmp_path / "run" / "run.json").read_text())["model"]
    assert model["initialisation"] == "public"
    assert [each["licence"] for each in model["weights"]] == ["CC0-1.0", "CC0-1.0"]


def test_torchvisions_weights_are_converted(tmp_path: Path) -> None:
    state, out = tmp_path / "state.pth", tmp_path / "out.safetensors"
    torch.save(models.squeezenet1_1(weights=None).state_dict(), state)
    assert "wrote" in command(
        "convert-weights", state, "--encoder", "squeezenet1_1", *SAID, "--out", out
    )
    assert out.is_file()


def test_weights_of_scenes_tell_how_well_they_do_on_others(tmp_path: Path) -> None:
    sizes = ("--width", 4, "--image-size", 32, "--epochs", 1)
    told = command("pretrain", "--scenes", 100, *sizes, "--out", tmp_path / "scenes.safetensors")
    assert "encoder_held_out_light_spot_auc" in told
    assert "encoder_held_out_mean_r2" in told


@pytest.mark.parametrize(
    "words",
    [
        ("--without", "healthy"),
        ("--modality", "ct"),
        ("--images", "public", "--without", "healthy", *SAID),
        ("--images", "public", "--modality", "mri", "--without", "healthy"),
        ("--scenes", 100, "--images", "public", "--modality", "mri", "--without", "h", *SAID),
    ],
)
def test_what_does_not_go_together_is_refused_with_a_way_out(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        command("pretrain", "--out", tmp_path / "out", *words)
    assert refused.value.hint


@pytest.mark.parametrize("command_name", ["pretrain", "convert-weights"])
def test_words_that_would_speak_to_a_terminal_are_refused_before_the_work(
    command_name: str, tmp_path: Path
) -> None:
    words = [command_name, "--out", tmp_path / "out", "--origin", "made\x1b[2J"]
    found = CliRunner().invoke(cli, [*map(str, words)])
    assert found.exit_code == 2
    assert "'--origin': it has control characters" in found.output
