"""Networks for three colours and batches, converted: what stays of them, and what does not."""

import copy

import pytest
import torch
from torch import nn

from securefed.model.conversion import convert
from securefed.model.vision import models

NETWORKS = ("resnet18", "mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2_x1_0", "r3d_18")


@pytest.mark.parametrize("name", NETWORKS)
def test_affine_parts_stay_and_running_statistics_go(name: str):
    torch.manual_seed(0)
    network = models.get_model(name, weights=None)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
                module.weight.normal_()
                module.bias.normal_()
    before = copy.deepcopy(network.state_dict())
    convert(network)
    after = network.state_dict()
    gone = {key.rsplit(".", 1)[1] for key in before.keys() - after.keys()}
    assert gone == {"running_mean", "running_var", "num_batches_tracked"}
    changed = [key for key in after if not torch.equal(after[key], before[key])]
    assert changed == [next(iter(before))]  # the first convolution alone


def test_a_grey_picture_is_what_it_was_in_three_equal_channels():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(inplace=True), nn.Conv2d(5, 2, 3))
    grey = torch.randn(2, 1, 9, 9)
    with torch.no_grad():
        before = network(grey.expand(-1, 3, -1, -1).clone())
        convert(network)
        torch.testing.assert_close(network(grey), before)
