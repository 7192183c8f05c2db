"""Networks made for ImageNet, made fit for gradients of single patients.

Batch statistics mix patients, and then no gradient belongs to one patient; random depth and dropout
would make a frozen encoder another one at each use; in-place activations lose what torch.func needs
kept. What remains of a normalisation is its affine part: weight and bias are kept as they were
trained, the running statistics are dropped, and GroupNorm (Wu & He 2018) takes each image's own.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from securefed.errors import ConfigurationError

GROUPS = 8
COMPACT_WIDTHS = (16, 32, 48)  # channels of the compact networks' blocks
_BEHIND_THE_MAP = ("avgpool", "classifier", "fc")  # how torchvision's networks end
_RANDOM = ("Dropout", "Dropout2d", "Dropout3d", "StochasticDepth")


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with as many groups as divide the channels, at most 8."""
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


def torchvision_map(
    name: str,
    norm: Callable[[int], nn.GroupNorm] = group_norm,
    state: Mapping[str, Tensor] | None = None,
) -> nn.Sequential:
    """A network as torchvision names it: converted, up to its last map.

    Args:
        norm: see `convert`.
        state: of the whole network before it is converted; at random if there is none. What comes
            after the last map is not looked at.

    Raises:
        ConfigurationError: the state is not of this network.
    """
    from securefed.model.vision import models  # slow to import; compact encoders need none of it

    network = models.get_model(name, weights=None)
    if state is not None:
        _load(network, name, state)
    convert(network, norm)
    layers = [child for name, child in network.named_children() if name not in _BEHIND_THE_MAP]
    return nn.Sequential(*layers)


def _load(network: nn.Module, name: str, state: Mapping[str, Tensor]) -> None:
    own = network.state_dict()
    for key, value in own.items():
        if key.split(".")[0] in _BEHIND_THE_MAP or key.endswith("num_batches_tracked"):
            continue
        fault = _fault(state.get(key), value)
        if fault:
            raise ConfigurationError(
                f"these are no weights of torchvision's {name}: {key} {fault}",
                hint="name the network that they are of, as torchvision has it",
            )
        own[key] = state[key]
    network.load_state_dict(own)


def _fault(given: Tensor | None, wanted: Tensor) -> str | None:
    if given is None:
        return "is not there"
    # Sparse, quantised or without values (device meta): not what is looked at below.
    dense = given.layout is torch.strided and given.device.type == "cpu"
    if not dense or given.is_floating_point() != wanted.is_floating_point():
        return "is no dense tensor of floating-point numbers"
    if given.shape != wanted.shape:
        return f"has shape {tuple(given.shape)}"
    return None if bool(given.isfinite().all()) else "holds non-finite values"


def convert(network: nn.Module, norm: Callable[[int], nn.GroupNorm] = group_norm) -> None:
    """Take out of a network, in place, what mixes images, is random, or overwrites its input.

    Its first convolution takes one channel instead of three: the weights are summed, which is what
    a grey picture in three equal channels would have gone through.

    Args:
        norm: of so many channels, in place of batch statistics.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(parent, name, _of_single_images(child, norm))
            elif type(child).__name__ in _RANDOM:
                setattr(parent, name, nn.Identity())
            elif hasattr(child, "inplace"):
                setattr(child, "inplace", False)  # noqa: B010 - of whatever kind it is
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d))
    first.in_channels = 1
    first.weight = nn.Parameter(first.weight.detach().sum(1, keepdim=True))


@torch.no_grad()
def _of_single_images(batch: _BatchNorm, norm: Callable[[int], nn.GroupNorm]) -> nn.GroupNorm:
    made = norm(batch.num_features)
    made.eps = batch.eps
    made.weight.copy_(batch.weight)
    made.bias.copy_(batch.bias)
    return made
