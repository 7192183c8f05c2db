"""captum's attributions, where it is installed: they belong to the same answer and slice."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from securefed.data.load import load_manifest
from securefed.errors import ConfigurationError
from securefed.model.place_grid import place_grid
from securefed.prediction.cross_check import agreement, attributions
from securefed.prediction.explanation import Explanation, explain
from securefed.prediction.model import ReleasedModel, load_model
from tests.prediction.conftest import strangers, trained

__all__ = ["strangers", "trained"]  # fixtures


@pytest.fixture(scope="module")
def model(trained: Path) -> ReleasedModel:
    return load_model(trained)


@pytest.fixture(scope="module")
def shown(model: ReleasedModel, strangers: Path) -> Explanation:
    patients = load_manifest(strangers, 32, model.modalities).patients
    return explain(model, next(patient for patient in patients if patient.present.all()))


def test_each_gives_the_places_what_its_paper_says(
    model: ReleasedModel, shown: Explanation
) -> None:
    pytest.importorskip("captum", reason="needs the extra explain (captum)")
    grid, number = place_grid(model.network), shown.place.slice
    found = attributions(model, shown, grid)
    images, present = shown.group.images.float(), shown.group.present
    # Occlusion by hand: a place's pixels black in all modalities.
    own = torch.from_numpy(grid.nearest(32) == 2)
    dark = images.clone()
    dark[:, :, number, own[:, None] & own] = 0
    with torch.no_grad():
        lost = float(model.network(images, present) - model.network(dark, present))
    assert found["occlusion"][2, 2] == pytest.approx(lost, abs=1e-4)
    # Gradients of one slice are a part of what the answer is above that to black images.
    assert found["integrated gradients"].shape == (4, 4)
    assert np.isfinite(found["integrated gradients"]).all()
    assert np.abs(found["integrated gradients"]).max() > 0


def test_agreement_is_a_rank_correlation(model: ReleasedModel, shown: Explanation) -> None:
    pytest.importorskip("captum", reason="needs the extra explain (captum)")
    told = agreement(model, shown, place_grid(model.network))
    assert set(told) == {"integrated gradients", "occlusion"}
    assert all(value is None or -1 <= value <= 1 for value in told.values())
    assert not any(value is not None and math.isnan(value) for value in told.values())


def test_without_captum_it_is_said_how_to_get_it(
    model: ReleasedModel, shown: Explanation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ConfigurationError, match="captum, which is not installed") as refused:
        attributions(model, shown, place_grid(model.network))
    assert refused.value.hint == "pip install 'securefed[explain]'"
