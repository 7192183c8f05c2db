"""Where places lie in the image: by the strides, and by what a place sees."""

import numpy as np
import pytest
import torch

from securefed.model.encoders import ENCODERS
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.place_grid import PlaceGrid, place_grid

EXPECTED = {
    "compact": (0, 8, 8),
    "resnet18": (0, 32, 2),
    "squeezenet1_1": (15, 16, 3),
    "compact3d": (0, 8, 8),
    "r3d_18": (0, 16, 4),
}


@pytest.mark.parametrize("encoder", EXPECTED)
def test_strides_are_followed_through_the_network(encoder: str) -> None:
    network = FusionNetwork(NetworkShape(encoder=encoder)).eval()
    assert place_grid(network) == PlaceGrid(*EXPECTED[encoder])


def test_a_place_sees_most_of_the_pixels_around_its_centre() -> None:
    """All weights alike, and no normalisation: what is left is the shape of the field."""
    network = FusionNetwork(NetworkShape()).eval()
    encoder = ENCODERS["compact"](8)
    for layer in encoder.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.ones_(layer.weight)
    convolutions = [each for each in encoder.modules() if isinstance(each, torch.nn.Conv2d)]
    image = torch.zeros(1, 1, 64, 64, requires_grad=True)
    features = torch.nn.Sequential(*convolutions)(image)
    features[0, 0, 4, 3].backward()
    assert image.grad is not None
    seen = image.grad[0, 0].double().numpy()
    row, column = (float(np.average(np.arange(64), weights=seen.sum(axis))) for axis in (1, 0))
    grid = place_grid(network)
    assert (row, column) == pytest.approx((grid.centre(4), grid.centre(3)), abs=1e-4)


def test_every_pixel_belongs_to_one_place_and_sums_keep_the_whole() -> None:
    grid = PlaceGrid(0.0, 8.0, 8)
    assert grid.nearest(64).tolist() == [0] * 4 + sorted([*range(1, 7)] * 8) + [7] * 12
    pixels = np.random.default_rng(1).random((3, 64, 64))
    sums = grid.sums(pixels)
    assert sums.sum() == pytest.approx(pixels.sum())
    assert sums[2, 1, 7] == pytest.approx(pixels[2, 4:12, 52:].sum())
    painted = grid.over_pixels(np.arange(64).reshape(8, 8), 64)
    assert painted[63, 0] == 56
    assert painted[4, 12] == 10
