"""What tests that train share. Torch is loaded only for those: the others stay light."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.tiny import settings_with

if TYPE_CHECKING:
    from securefed.data.load import FederatedData


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread for torch, where it is loaded: the tensors of the tests are too small to share."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def patients() -> "FederatedData":
    """Those of a tiny federation: four hospitals with ten to train on and four held out."""
    from securefed.simulation.patients import load_data

    return load_data(settings_with()())
