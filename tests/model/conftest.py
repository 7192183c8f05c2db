"""Tiny patients and networks: 32-pixel phantoms, so that each test takes milliseconds."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.training.patients import stack

MakeNetwork = Callable[..., FusionNetwork]


@pytest.fixture
def make_network() -> MakeNetwork:
    """Networks for 32-pixel slices, with placeholders and attention that are not at their start.

    A fresh network has zero placeholders and nearly zero scores, under which many mistakes of
    masking or attention would not show.
    """

    def make(seed: int = 0, **shape: Any) -> FusionNetwork:
        torch.manual_seed(seed)
        network = FusionNetwork(NetworkShape(**{"image_size": 32, **shape}))
        with torch.no_grad():
            for parameter in network.fusion.parameters():
                parameter.add_(0.5 * torch.randn_like(parameter))
        return network

    return make


@pytest.fixture(scope="session")
def phantoms() -> PatientTensors:
    """Twelve patients of 2 to 4 slices, all of them with both modalities; padded to 4."""
    spec = PhantomSpec(image_size=32, slices=(2, 4), missing_query=0.0, missing_context=0.0)
    site = SiteProfile.draw(spec, 0, seed=5)
    return stack([each.patient for each in generate(spec, site, 12, seed=5)], max_slices=4)
