"""`securefed export`: what it hands on, and what it refuses."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from securefed.cli.app import cli
from securefed.errors import ConfigurationError, DataError, RunError
from tests.prediction.conftest import trained

__all__ = ["trained"]  # fixture


def securefed(*words: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)


def test_a_model_that_is_not_to_be_used_is_handed_on_only_when_told(
    trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"not to be used on patients: .*made-up patients") as told:
        securefed("export", trained, "--monai", tmp_path / "bundle")
    assert told.value.hint is not None
    assert "--anyway" in told.value.hint
    assert not (tmp_path / "bundle").exists()


def test_both_formats_carry_the_card(trained: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra export")
    pytest.importorskip("onnxruntime", reason="needs the extra export")
    asked = ("export", trained, "--anyway", "--json")
    targets = ("--onnx", tmp_path / "model.onnx", "--monai", tmp_path / "bundle")
    told = json.loads(securefed(*asked, *targets).stdout)
    assert told["written"] == [str(tmp_path / "model.onnx"), str(tmp_path / "bundle")]
    read = onnx.load(str(tmp_path / "model.onnx"))
    card = (trained / "model-card.md").read_text()
    assert {each.key: each.value for each in read.metadata_props}["securefed-card"] == card
    assert (tmp_path / "bundle/docs/README.md").read_text() == card
    with pytest.raises(DataError, match="exists already"):
        securefed(*asked, *targets)


def test_it_must_be_said_as_what(trained: Path) -> None:
    with pytest.raises(ConfigurationError, match="nothing says as what"):
        securefed("export", trained, "--anyway")
