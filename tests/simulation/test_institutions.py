"""Institutions left out in turn, as the benchmark does it: made-up scans of three sequences."""

import csv
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SITES, SEQUENCES = ("a", "b", "c"), ("t1", "flair", "t1c")


def _script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


INSTITUTIONS = _script(ROOT / "benchmarks" / "institutions.py")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Three patients of four slices at each site; a slice with the label is brighter in FLAIR."""
    rng, rows = np.random.default_rng(7), []
    for site in SITES:
        for patient in (f"{site}{number}" for number in range(3)):
            for number in range(4):
                row = {"patient_id": patient, "site": site, "slice": number, "label": number % 2}
                for name in SEQUENCES:
                    grey = rng.integers(0, 90, (32, 32)) + 120 * (name == "flair") * (number % 2)
                    path = tmp_path / "scans" / f"{patient}_{number}_{name}.png"
                    path.parent.mkdir(exist_ok=True)
                    Image.fromarray(grey.astype(np.uint8)).save(path)
                    row[f"{name}_path"] = path.name
                rows.append(row)
    with (tmp_path / "scans" / "manifest.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    return tmp_path / "scans" / "manifest.csv"


def test_each_institution_is_answered_for_by_models_of_the_others(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {
        "model": {"query": "flair", "context": ["t1", "t1c"], "image_size": 32}
        | {"initialisation": "random", "train_encoders": True},
        "task": {"example": "slice"},
        "training": {"batch_size": 3, "optimizer": "adam", "learning_rate": 0.01},
        "privacy": {"dp": False, "delta": 0.01},
        "federation": {"clients": 3, "rounds": 2, "shared": "all", "strategy": "fedavg"},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small))
    words = [str(manifest), "--config", str(tmp_path / "small.yaml"), "--seeds", "1"]
    words += ["--draws", "20", "--masks", "t1,t1c", "--json"]
    INSTITUTIONS.main([*words, "--ways", "fusion", "alone"])
    cases = {each["case"]: each for each in json.loads(capsys.readouterr().out)["cases"]}
    assert {"fusion", "alone, mean", "fusion without t1,t1c"} <= set(cases)
    assert set(cases["fusion"]["by_institution"]) == set(SITES)
    assert set(cases["alone: a"]["by_institution"]) == {"b", "c"}, "nobody answers for its own"
    private = ["--dp-set", "privacy.patients_epsilon=2", "--leave", "c"]
    INSTITUTIONS.main([*words, "--ways", "query", "dp image", "dp patient", *private])
    cases = {each["case"]: each for each in json.loads(capsys.readouterr().out)["cases"]}
    assert set(cases) == {"query", "dp image", "dp patient"}
    assert not {path.name for path in manifest.parent.parent.iterdir()} - {"scans", "small.yaml"}


def test_a_patient_is_drawn_with_all_slices_and_gains_are_of_pairs() -> None:
    one, other = np.array([0.8, 0.7, 0.9]), np.array([0.6, 0.8, 0.8])  # of all, then of two draws
    alone = {"alone: a": {"c": one}, "alone: b": {"c": other}}
    fused = (np.array([0.8, 0.9, 0.9]), np.array([0.9, 0.9, 0.9]))
    finished = [{**alone, "fusion": {"c": each}} for each in fused]
    cases = {each["case"]: each for each in INSTITUTIONS.table(finished)}
    assert cases["fusion"]["ours"] == pytest.approx(0.85)
    assert cases["alone, mean"]["ours"] == pytest.approx(0.7)
    assert cases["alone, best"]["ours"] == pytest.approx(0.8)
    gain, low, high = cases["fusion"]["gain"]["alone, best"]
    assert gain == pytest.approx(0.05)
    assert (low, high) == pytest.approx((0.005, 0.195))
