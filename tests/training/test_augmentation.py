"""What a step sees of a scan: changed by its own random numbers, modalities still registered."""

import numpy as np
import pytest
import torch

from securefed.config import load
from securefed.errors import ConfigurationError
from securefed.model.patients import PatientTensors
from securefed.privacy.noise import SeededSource
from securefed.training.augmentation import augmented

EXAMPLES, SIZE = 400, 32


def _source() -> SeededSource:
    return SeededSource(3, "augmentation")


@pytest.fixture(scope="module")
def group() -> PatientTensors:
    """Two modalities of two slices, a bright square left of the middle in each."""
    images = torch.zeros(EXAMPLES, 2, 2, SIZE, SIZE, dtype=torch.uint8)
    images[..., 12:20, 6:14] = 100
    present = torch.ones(EXAMPLES, 2, 2, dtype=torch.bool)
    return PatientTensors(("t1", "flair"), images, present, torch.zeros(EXAMPLES))


def _centres(images: torch.Tensor) -> torch.Tensor:
    """(..., 2) where the square is: its rows and columns, from the middle of the picture."""
    axis = torch.arange(SIZE) - (SIZE - 1) / 2
    shown = (images >= images.amax((-2, -1), keepdim=True) / 2).float()
    weight = shown / shown.sum((-2, -1), keepdim=True)
    return torch.stack([(weight.sum(-1) * axis).sum(-1), (weight.sum(-2) * axis).sum(-1)], -1)


def test_an_example_changes_by_its_own_numbers_whoever_else_is_drawn(group: PatientTensors) -> None:
    whole = augmented(group, _source()).images
    assert torch.equal(augmented(group[:7], _source()).images, whole[:7])
    assert not torch.equal(whole[0], whole[1])
    assert len(augmented(group[:0], _source())) == 0


def test_slices_and_modalities_of_an_example_stay_registered(group: PatientTensors) -> None:
    centres = _centres(augmented(group, _source()).images)
    assert (centres - centres[:, :1, :1]).abs().max() < 0.5  # places
    assert centres[:, 0, 0].std(dim=0).min() > 1


def test_half_are_mirrored_and_grey_values_differ_by_modality(group: PatientTensors) -> None:
    images = augmented(group, _source()).images
    mirrored = (_centres(images)[:, 0, 0, 1] > 0).float().mean()
    assert 0.4 < mirrored < 0.6  # 4 standard deviations of a fair coin
    brightest = images.amax((-3, -2, -1)).float()  # (examples, modalities)
    assert np.corrcoef(brightest.T)[0, 1] == pytest.approx(0, abs=0.2)
    assert brightest.min() < 60
    assert brightest.max() > 150


def test_frozen_encoders_refuse_it() -> None:
    with pytest.raises(ConfigurationError, match=r"training\.augment: needs model\.train_encoders"):
        load(None, {"training.augment": True})
    assert load(None, {"training.augment": True, "model.train_encoders": True}).training.augment
