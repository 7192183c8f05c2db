"""Real MRI of three institutions with a label for each slice: checked and trained as they are.

The data may not be redistributed: without ../shared/data/lgg_mri, laid out as docs/data.md says,
the test is skipped.
"""

import csv
import shutil
from pathlib import Path

import pytest

from securefed.config import load
from securefed.data.load import inspect_manifest
from securefed.run_directory import Run
from securefed.simulation.execution import execute

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A copy without the masks, which are no modality; a run writes beside its data."""
    folder = ROOT.parent / "shared" / "data" / "lgg_mri"
    if not (folder / "slices.csv").is_file():
        pytest.skip("the real MRI of three sites is not beside the repository (../shared/data)")
    for site in ("CS", "DU", "HT"):
        shutil.copytree(folder / site, tmp_path / "lgg" / site)
    with (folder / "slices.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = ("patient_id", "site", "slice", "t1_path", "flair_path", "t1c_path", "label")
    with (tmp_path / "lgg" / "manifest.csv").open("w", newline="") as out:
        table = csv.DictWriter(out, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)
    return tmp_path / "lgg" / "manifest.csv"


def test_three_sites_train_on_sequences_with_a_label_for_each_slice(
    manifest: Path, tmp_path: Path
) -> None:
    loaded = inspect_manifest(manifest, 32, ("flair", "t1", "t1c"), example="slice")
    assert len(loaded.patients) == 95
    assert (loaded.rows, loaded.usable_rows) == (1348, 1348)  # a blank sequence costs itself only
    assert {problem.reason.partition(": ")[2][:8] for problem in loaded.problems} == {"is blank"}
    assert {patient.site for patient in loaded.patients} == {"CS", "DU", "HT"}
    assert sum(example.label for p in loaded.patients for example in p.examples) == 577
    as_patients = inspect_manifest(manifest, 32, ("flair",), example="patient")
    assert len(as_patients.patients) == 1, "slices of all others contradict each other"
    small = {
        "data.manifest": str(manifest),
        "model.image_size": 32,
        "training.local_steps": 1,
        "federation.rounds": 1,
    }
    execute(load(ROOT / "configs" / "lgg.yaml", small), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert run.summary.auc is not None
    assert run.summary.patients is not None
    assert run.held_out is not None
    assert run.summary.patients + run.held_out.patients == 95
