"""A model in another format answers as the model does: for every selection of modalities.

Nothing is handed on that has not been held against the network: a converter's fault would else be
found by a patient.
"""

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from securefed.errors import RunError
from securefed.model.network import FusionNetwork

WITHIN = 1e-5  # of logits

Answer = Callable[[Tensor, Tensor], Tensor]


def require_equal(network: FusionNetwork, answer: Answer, what: str) -> float:
    """The largest difference of logits that was seen.

    Args:
        answer: of the other format, from images and mask as the network takes them.
        what: its name, for a message.

    Raises:
        RunError: a logit differs by more than WITHIN.
    """
    with torch.no_grad():
        differences = [
            float((network(*inputs) - answer(*inputs)).abs().max()) for inputs in _inputs(network)
        ]
    # Asked so that what is no number is refused too.
    if not all(each <= WITHIN for each in differences):
        raise RunError(
            f"the {what} answers otherwise than the model; nothing was written",
            hint="the installed converter has a fault: another version of it may not",
        )
    return max(differences)


def _inputs(network: FusionNetwork) -> Iterator[tuple[Tensor, Tensor]]:
    """Every selection of modalities alone, and all in one batch over slices that differ."""
    modalities, size = len(network.shape.modalities), network.shape.image_size
    random = torch.Generator().manual_seed(0)
    patterns = [each for each in itertools.product((False, True), repeat=modalities) if any(each)]
    for pattern in patterns:
        for slices in (1, 3):
            present = torch.tensor(pattern)[None, :, None].expand(1, -1, slices)
            yield _images(present, size, random), present
    mixed = torch.tensor(
        [[*patterns[number:], *patterns[:number]] for number in range(len(patterns))]
    )
    present = mixed.transpose(1, 2)  # (examples, modalities, slices)
    padding = torch.zeros(len(patterns), modalities, 1, dtype=torch.bool)
    present = torch.cat([present, padding], dim=-1)
    yield _images(present, size, random), present


def _images(present: Tensor, size: int, random: torch.Generator) -> Tensor:
    """uint8 noise, never black where there is a slice, and zeros where there is none."""
    noise = torch.randint(1, 256, (*present.shape, size, size), generator=random)
    return (noise * present[..., None, None]).to(torch.uint8)
