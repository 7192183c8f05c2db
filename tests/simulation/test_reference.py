"""Scans unlike the reference phantoms: who is told apart, who is not, and what a file must hold.

The full figures are the benchmark's (benchmarks/unlike.py, docs/predict.md); here its cases of one
seed, fewer patients.
"""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from securefed.config import Settings
from securefed.data.samples import Patient
from securefed.errors import RunError
from securefed.model.likeness import KINDS, Reference, numbers_of
from securefed.prediction.model import load_model
from securefed.record import model_file
from securefed.simulation.patients import phantom_spec
from securefed.simulation.reference import LARGEST, public_reference
from securefed.training.patients import stack

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "unlike.py"
SETTINGS = Settings()
SEED = 11


@pytest.fixture(scope="module")
def cases() -> ModuleType:
    spec = importlib.util.spec_from_file_location("unlike", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference() -> Reference:
    found = public_reference(SETTINGS)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def held_out(cases: ModuleType) -> list[Patient]:
    found: list[Patient] = cases.phantoms(phantom_spec(SETTINGS), SEED)
    return found


def said(reference: Reference, patients: list[Patient]) -> list[str]:
    return reference.unlike(stack(patients, SETTINGS.training.max_slices))


def share(answers: list[str]) -> float:
    return float(np.mean([bool(each) for each in answers]))


def test_held_out_phantoms_are_told_from_others_at_most_once_in_twenty(
    reference: Reference, held_out: list[Patient]
) -> None:
    assert any(not each.present.all() for each in held_out)
    assert share(said(reference, held_out)) <= 0.05


@pytest.mark.parametrize(
    "change", ["a quarter turn", "negatives", "half noise", "noise", "another organ"]
)
def test_other_pictures_are_unlike(
    cases: ModuleType, reference: Reference, held_out: list[Patient], change: str
) -> None:
    changed = [cases.CHANGES[change](each) for each in held_out[::4]]
    assert share(said(reference, changed)) == 1.0


def test_phantoms_upside_down_are_unlike(
    cases: ModuleType, reference: Reference, held_out: list[Patient]
) -> None:
    """Heads have a front and a back; low slices alone show it less."""
    turned = [cases.upside_down(each) for each in held_out]
    assert share(said(reference, turned)) >= 0.95


@pytest.mark.parametrize(
    ("scanner", "least"),
    [
        ("scanner: CT off by 12 HU", 0.95),
        ("scanner: CT noise of 10 HU", 0.95),
        ("scanner: MRI gamma of 1.8", 0.9),
        ("scanner: all of these", 0.95),
    ],
)
def test_another_scanner_is_unlike(
    cases: ModuleType, reference: Reference, scanner: str, least: float
) -> None:
    made = cases.phantoms(phantom_spec(SETTINGS), SEED, **cases.SHIFTS[scanner])
    assert share(said(reference, cases.both(made)[::4])) >= least


def test_swapped_modalities_are_said_to_be_swapped(
    cases: ModuleType, reference: Reference, held_out: list[Patient]
) -> None:
    whole = cases.both(held_out)[::4]
    answers = said(reference, [cases.swapped(each) for each in whole])
    assert share(answers) == 1.0
    assert np.mean([each == "ct and mri look swapped" for each in answers]) > 0.9
    alone = [
        replace(each, images=each.images.copy(), present=each.present.copy()) for each in whole
    ]
    for each in alone:
        each.images[0] = each.images[1]
        each.images[1], each.present[1] = 0, False
    assert np.mean([one == "ct looks like mri" for one in said(reference, alone)]) > 0.9


def test_a_padded_slice_and_a_missing_modality_have_no_say(
    reference: Reference, held_out: list[Patient]
) -> None:
    group = stack(held_out[:8], SETTINGS.training.max_slices)
    wide = replace(
        group,
        images=torch.nn.functional.pad(group.images, (0, 0, 0, 0, 0, 3), value=77),
        present=torch.nn.functional.pad(group.present, (0, 3)),
    )
    assert reference.unlike(wide) == reference.unlike(group)


def test_flat_pictures_have_numbers_too() -> None:
    for size in (8, 17, 64):
        for value in (0, 255):
            numbers = numbers_of(np.full((1, size, size), value, np.uint8))
            assert {kind: len(each) for kind, each in numbers.items()} == KINDS
            assert all(np.isfinite(each).all() for each in numbers.values())


def test_a_model_file_carries_it_and_a_damaged_one_is_refused(
    reference: Reference, held_out: list[Patient], tmp_path: Path
) -> None:
    from securefed.wire.description import initial_network

    network = initial_network(SETTINGS)[0]
    model_file.write(tmp_path, network, SETTINGS, None, "phantom", "", reference=reference)
    opened = load_model(tmp_path)
    assert opened.reference is not None
    assert said(opened.reference, held_out[:30]) == said(reference, held_out[:30])
    assert model_file.read(tmp_path).keys() == network.state_dict().keys()
    with pytest.raises(RunError, match="not of the model's modalities"):
        model_file.read_reference(tmp_path / model_file.NAME, ("ct", "pet"))
    arrays = reference.arrays()
    for damage in (
        {"ct.place": np.full_like(arrays["ct.place"], np.nan)},
        {"ct.place": np.zeros_like(arrays["ct.place"])},
        {"ct.noise": arrays["ct.noise"][1:]},
        {"ct.noise": arrays["ct.noise"].astype(np.float32)},
        {"ct.other": arrays["ct.noise"]},
    ):
        with pytest.raises(RunError, match="reference"):
            Reference.of_arrays({**arrays, **damage}, ("ct", "mri"))
    del arrays["ct.noise"]
    with pytest.raises(RunError, match="not of the model's modalities"):
        Reference.of_arrays(arrays, ("ct", "mri"))


@pytest.mark.parametrize(
    "others", [{"data": {"manifest": "m.csv"}}, {"model": {"image_size": 2 * LARGEST}}]
)
def test_of_other_patients_or_large_pictures_there_is_none(others: dict[str, Any]) -> None:
    assert public_reference(Settings.model_validate(others)) is None


def test_slices_have_a_reference_of_slices() -> None:
    settings = Settings.model_validate(
        {"task": {"example": "slice"}, "model": {"image_size": 32, "harmonise": True}}
    )
    found = public_reference(settings)
    assert found is not None
    assert found.of.keys() == {"ct", "mri"}
