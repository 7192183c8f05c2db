"""What answers otherwise than the network is not handed on."""

import pytest
import torch
from torch import Tensor

from securefed.errors import RunError
from securefed.handover.equality import require_equal
from securefed.model.network import FusionNetwork, NetworkShape


@pytest.fixture(scope="module")
def network() -> FusionNetwork:
    torch.manual_seed(1)
    shape = NetworkShape(image_size=16, context=("mri", "pet"))
    return FusionNetwork(shape).eval().requires_grad_(False)


def test_every_selection_of_modalities_is_asked(network: FusionNetwork) -> None:
    asked = set()

    def answer(images: Tensor, present: Tensor) -> Tensor:
        assert not images[~present].any()
        if len(images) == 1:
            asked.add(tuple(present[0, :, 0].tolist()))
        else:
            assert not present[..., -1].any()  # padding
        return network(images, present)

    assert require_equal(network, answer, "same") == 0
    assert len(asked) == 7


@pytest.mark.parametrize("wrong", [2e-5, float("nan")])
def test_one_that_is_off_for_one_selection_is_refused(network: FusionNetwork, wrong: float) -> None:
    def answer(images: Tensor, present: Tensor) -> Tensor:
        only_mri = present.any(-1).tolist() == [[False, True, False]]
        return network(images, present) + (wrong if only_mri else 0)

    with pytest.raises(RunError, match="ONNX file answers otherwise than the model"):
        require_equal(network, answer, "ONNX file")
