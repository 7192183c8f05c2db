"""Which parameters travel: the shared ones as one vector, the personal ones kept at home.

The order of the vector is the network's own parameter order, so both sides agree on it without
sending names. Arivazhagan et al. 2019 (FedPer) keep layers personal; we choose them by group.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from securefed.errors import RunError
from securefed.model.network import ENCODER

Vector = NDArray[np.float32]

SHARED_GROUPS: dict[str, tuple[str, ...]] = {
    "classifier": ("classifier.",),
    "fusion+classifier": ("fusion.", "classifier."),
    "all": (ENCODER, "fusion.", "classifier."),
}
LARGEST_PARAMETER = 1e4  # no sane weight is near it; imprint attacks scale weights far up


def shared_names(network: nn.Module, shared: str) -> list[str]:
    """Names of the shared parameters in vector order; `shared` is a key of SHARED_GROUPS."""
    prefixes = SHARED_GROUPS[shared]
    return [name for name, _ in network.named_parameters() if name.startswith(prefixes)]


def flatten(parameters: Mapping[str, Tensor], names: list[str]) -> Vector:
    """Concatenate the named parameters to one float32 vector."""
    parts = [parameters[name].detach().reshape(-1) for name in names]
    vector: Vector = torch.cat(parts).to("cpu", torch.float32).numpy()
    return vector


@torch.no_grad()
def load_vector(network: nn.Module, names: list[str], vector: Vector) -> None:
    """Write a vector received from the server into the named parameters.

    Raises:
        RunError: wrong length, non-finite or absurdly large values (a malicious server's way to
            make gradients reveal single patients); the network is then unchanged.
    """
    parameters = dict(network.named_parameters())
    expected = sum(parameters[name].numel() for name in names)
    if vector.shape != (expected,):
        raise RunError(f"shared parameters have shape {vector.shape}, expected ({expected},)")
    if not np.isfinite(vector).all():
        raise RunError("shared parameters hold non-finite values")
    largest = float(np.abs(vector).max(initial=0.0))
    if largest > LARGEST_PARAMETER:
        raise RunError(f"a shared parameter is {largest:.3g}, over the limit {LARGEST_PARAMETER:g}")
    offset = 0
    for name in names:
        parameter = parameters[name]
        piece = torch.from_numpy(vector[offset : offset + parameter.numel()].copy())
        parameter.copy_(piece.view_as(parameter))
        offset += parameter.numel()
