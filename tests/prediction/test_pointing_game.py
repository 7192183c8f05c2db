"""On phantoms the place that adds most lies in the tumour, far more often than chance."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from securefed.config import Settings
from securefed.data.phantom import PhantomSpec
from securefed.model.place_grid import PlaceGrid
from securefed.model.rates import wilson
from securefed.prediction.model import load_model
from securefed.simulation.execution import execute

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "pointing_game.py"


@pytest.fixture(scope="module")
def game() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pointing_game", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tumour_of_the_game_is_where_the_phantom_has_it(game: ModuleType) -> None:
    found = list(game.cases(PhantomSpec(image_size=32), 20))
    assert len(found) == 5
    for phantom, tumour, head in found:
        number, row, column = phantom.centres["ct"]
        assert tumour[number, round(row), round(column)]
        assert np.abs(np.argwhere(tumour).mean(0) - (number, row, column)).max() < 1.5
        assert tumour.sum() < head.sum() / 20


def test_a_hit_is_a_place_whose_centre_is_near(game: ModuleType) -> None:
    near = np.zeros((1, 32, 32), np.bool_)
    near[0, 8:17, 22:26] = True
    hit = game.hits_of(PlaceGrid(0.0, 8.0, 4), near)
    assert np.argwhere(hit[0]).tolist() == [[1, 3], [2, 3]]


def test_a_model_of_a_few_rounds_points_at_tumours(game: ModuleType, tmp_path: Path) -> None:
    """The fixed seed gives 25 of 39 where chance gives one; half of that would do."""
    settings = Settings.model_validate(
        {
            "data": {"phantom": {"patients": 40, "test_patients": 10}},
            "training": {"batch_size": 20},
            "federation": {"rounds": 12, "evaluate_every": 12},
            "privacy": {"dp": False},
            "secure_aggregation": {"enabled": False},
            "exposures": {"record": False},
        }
    )
    execute(settings, tmp_path / "run")
    found = list(game.cases(PhantomSpec(), 80))
    hits, chance = game.pointed(load_model(tmp_path / "run"), found)
    assert chance < 0.05
    assert wilson(hits / len(found), len(found))[0] > 3 * chance
