"""A simulation stays one in whatever travels: import, run.json, summary, model, guarantee.

So does a run with canaries, whose model is for auditing and for nothing else.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from securefed.cli.data import command
from securefed.data.images import write_png
from securefed.data.load import FederatedData
from securefed.record.directory import read_about
from securefed.run_directory import Run
from securefed.simulation import execution
from securefed.simulation.patients import load_data
from tests.tiny import settings_with

settings = settings_with(
    privacy={"accountant": "rdp"},
    federation={"shared": "classifier", "rounds": 1, "clients": 2},
    secure_aggregation={"enabled": False},
)


def class_folders(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for modality in ("Brain Tumor CT scan Images", "Brain Tumor MRI images"):
        for label in ("Healthy", "Tumor"):
            folder = root / modality / label
            folder.mkdir(parents=True)
            for number in range(15):
                coarse = rng.integers(20, 235, (8, 8))
                image = np.kron(coarse, np.ones((4, 4))).astype(np.uint8)
                write_png(folder / f"{number}.png", image)
    return root


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Class folders, imported, then trained on as a data set of their own."""
    root = tmp_path_factory.mktemp("simulated")
    source, out = str(class_folders(root / "in")), str(root / "out")
    arguments = ["import", source, "--out", out, "--size", "32", "--json"]
    made = CliRunner().invoke(command, arguments)
    assert json.loads(made.output)["simulation"] == "paired-by-class"
    chosen = settings(data={"manifest": root / "out"})
    execution.execute(chosen, root / "run")
    return Run.open(root / "run")


def test_an_imported_simulation_is_still_one(simulated: Run) -> None:
    assert simulated.about.data.simulation == simulated.summary.simulation == "paired-by-class"
    assert any("SIMULATION (paired-by-class)" in text for text in simulated.about.data.warnings)
    guarantee = simulated.guarantee
    assert guarantee is not None
    assert "per made-up patient" in str(guarantee)
    about = read_about(simulated.path / "model.safetensors")
    assert about["simulation"] == "paired-by-class"
    assert about["privacy"] == str(guarantee)


def test_data_check_says_it_of_the_original_and_of_the_import(
    simulated: Run, tmp_path: Path
) -> None:
    for folder in (class_folders(tmp_path / "in"), simulated.path.parent / "out"):
        checked = CliRunner().invoke(command, ["check", str(folder), "--size", "32", "--json"])
        assert json.loads(checked.output)["simulation"] == "paired-by-class"
        text = CliRunner().invoke(command, ["check", str(folder), "--size", "32"]).output
        assert "SIMULATION (paired-by-class): CT and MRI of different people" in text


def test_the_sites_key_is_in_no_file_of_a_run(simulated: Run) -> None:
    """Whoever has it can tell who trained; the run has its effects only."""
    text = (simulated.path.parent / "out.site-key").read_bytes().strip()
    files = [path for path in simulated.path.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        content = path.read_bytes()
        assert text not in content
        assert bytes.fromhex(text.decode()) not in content


def test_phantoms_written_to_files_are_still_phantoms(tmp_path: Path) -> None:
    arguments = ["phantom", "--out", str(tmp_path / "p"), "--size", "32", "--hospitals", "2"]
    assert CliRunner().invoke(command, arguments).exit_code == 0
    data = load_data(settings(data={"manifest": tmp_path / "p"}))
    assert data.simulation == "phantom"


def test_a_run_with_canaries_says_so_wherever_its_model_goes(
    tmp_path: Path, patients: FederatedData
) -> None:
    chosen = settings(federation={"clients": 4, "rounds": 1}, canaries={"count": 6})
    execution.execute(chosen, tmp_path / "run", data=patients)
    run = Run.open(tmp_path / "run")
    assert run.summary.canaries == 6
    assert read_about(run.path / "model.safetensors")["canaries"].startswith("6: trained for aud")
    execution.execute(
        chosen.model_copy(update={"canaries": settings().canaries}),
        tmp_path / "plain",
        data=patients,
    )
    assert Run.open(tmp_path / "plain").summary.canaries is None
    assert "canaries" not in read_about(tmp_path / "plain" / "model.safetensors")
