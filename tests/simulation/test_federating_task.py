"""What the benchmark of federating holds models against: a ceiling, a floor, intervals."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from securefed.simulation.patients import phantom_spec

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "federating.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    found = importlib.util.spec_from_file_location("federating", SCRIPT)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # where it finds its like, as a script does
        patch.setitem(sys.modules, "federating", module)
        found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hospitals(benchmark: ModuleType) -> list[Any]:
    task = benchmark.settings("together", 3, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "PATIENTS", 40)
        patch.setattr(benchmark, "UNSEEN", range(100, 102))
        made: list[Any] = benchmark.unseen(phantom_spec(task), 3, 12)
    return made


def test_the_ceiling_is_right_about_everybody_who_has_both_modalities(
    benchmark: ModuleType, hospitals: list[Any]
) -> None:
    known = benchmark.ceiling(phantom_spec(benchmark.settings("together", 3, {})))
    for hospital in hospitals:
        scores, label = known(hospital), hospital.group.label.numpy()
        whole = hospital.group.present.any(dim=2).all(dim=1).numpy()
        assert (scores[whole] == label[whole]).all()
        assert 0 < (~whole).sum() < len(whole)
        assert (scores[~whole] < 1).all()
        assert (scores[~whole][label[~whole] == 1] > 0.5).all()  # a tumour shows its finding


def test_the_floor_sees_something_and_far_less_than_the_ceiling(
    benchmark: ModuleType, hospitals: list[Any]
) -> None:
    known = benchmark.ceiling(phantom_spec(benchmark.settings("together", 3, {})))
    floor = benchmark.of_scores(hospitals, benchmark.floor)
    assert 0.3 < floor < 0.8
    assert benchmark.of_scores(hospitals, known) > 0.95


def test_whoever_has_no_score_is_left_out(benchmark: ModuleType, hospitals: list[Any]) -> None:
    hospital = hospitals[0]
    scores = hospital.group.label.numpy().astype(float)
    scores[::7] = np.nan
    assert hospital.auc(scores) == 1.0


def test_every_way_of_training_is_of_the_task(benchmark: ModuleType) -> None:
    for way in benchmark.WAYS:
        wanted = benchmark.settings(way, 4, {"federation.rounds": 2})
        assert (wanted.seed, wanted.federation.rounds) == (4, 2)
        assert wanted.data.phantom.site_shift == 1.0
    assert benchmark.settings("epsilon 2", 0, {}).privacy.placement == "distributed"


def test_an_interval_of_a_mean_is_students(benchmark: ModuleType) -> None:
    mean, interval = benchmark.mean_and_interval([0.9, 0.92, 0.94])
    assert mean == pytest.approx(0.92)
    assert interval == pytest.approx([0.92 - 0.04968, 0.92 + 0.04968], abs=1e-4)  # t of 2: 4.303
    assert benchmark.mean_and_interval([0.9]) == (0.9, None)
