"""What a hospital's local training would make of given images: the closure that inversion matches.

One SGD step is a gradient; several are unrolled, differentiably (Dimitrov et al. 2022, section 4),
as are the first steps of Adam, whose state starts at zero. Every step sees the same images, so
that an epoch over several batches is approximated by one over their union. Nothing is clipped and
no noise is added: an attacker knows the rule but not the norms, and matches directions.

Frozen encoders are public and run once per search step on all images; only fusion and classifier
then go through torch.func, one problem per row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from attacks.errors import InvalidScores
from attacks.inversion.gradient_inversion import Simulate
from securefed.model import task
from securefed.model.network import ENCODER, FusionNetwork

ADAM_MOMENTUM, ADAM_SQUARES = 0.9, 0.999  # torch's defaults, which hospitals use
# Adam divides by |gradient|; rounding that corner off keeps the slope finite where it is 0.
ADAM_CORNER = 1e-7

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class LocalSteps:
    """A round of local training: the optimizer ("sgd" or "adam"), its rate, and FedProx' mu."""

    optimizer: str = "sgd"
    learning_rate: float = 0.3
    count: int = 1
    proximal: float = 0.0

    def __post_init__(self) -> None:
        if self.optimizer not in ("sgd", "adam") or self.count < 1:
            raise InvalidScores(
                f"cannot unroll {self.count} steps of {self.optimizer!r}", hint="sgd or adam"
            )


@dataclass(frozen=True, eq=False)
class Presence:
    """What is assumed of the dummy patients, per problem.

    Attributes:
        present: (problems, patients, modalities, slices) bool.
        label: (problems, patients), 0 or 1, or the number of a class.
    """

    present: Tensor = field(repr=False)
    label: Tensor = field(repr=False)

    @property
    def pixels(self) -> Tensor:
        """Which images are searched: (problems, patients, modalities, slices, 1, 1)."""
        return self.present[..., None, None]


def trained_names(network: FusionNetwork, encoders_train: bool) -> list[str]:
    """Names of the parameters that local training moves, in network order."""
    names = [name for name, _ in network.named_parameters()]
    return [name for name in names if encoders_train or not name.startswith(ENCODER)]


def updates_of(
    network: FusionNetwork,
    shared: Sequence[str],
    trained: Sequence[str],
    presence: Presence,
    steps: LocalSteps,
) -> Simulate:
    """Images to the change of the shared parameters, differentiable.

    Args:
        network: as the round starts; it is not changed.
        shared: names that the observer sees, in vector order.
        trained: names that the hospital moves, shared or personal.

    Returns:
        (problems, patients, modalities, slices, size, size) in [0, 1] -> (problems, P); of one SGD
        step with no learning rate, since only the direction counts.
    """
    start = {name: p.detach() for name, p in network.named_parameters() if name in set(trained)}
    encoded = not any(name.startswith(ENCODER) for name in trained)

    def change(images: Tensor, present: Tensor, label: Tensor) -> Tensor:
        def loss(parameters: Parameters) -> Tensor:
            inputs = (images, present)
            logits: Tensor = functional_call(network, parameters, inputs, {"encoded": encoded})
            return task.loss(logits, label, torch.full_like(label, 1 / len(label)))

        end = _unroll(loss, start, steps)
        return torch.cat([(end[name] - start[name]).reshape(-1) for name in shared])

    def simulate(images: Tensor) -> Tensor:
        if images.ndim != 6 or images.shape[:2] != presence.label.shape:
            raise InvalidScores(
                f"images of shape {tuple(images.shape)} for labels of shape "
                f"{tuple(presence.label.shape)}",
                hint="(problems, patients, modalities, slices, size, size)",
            )
        # The network divides raw images by 255; ours are in [0, 1] already.
        inputs = network.encode(images, presence.present) if encoded else images * 255
        updates: Tensor = vmap(change)(inputs, presence.present, presence.label)
        return updates

    return simulate


def _unroll(
    loss: Callable[[Parameters], Tensor], start: Mapping[str, Tensor], steps: LocalSteps
) -> Parameters:
    """The parameters after local training, as a differentiable function of the loss."""
    slope: Callable[[Parameters], Parameters] = grad(loss)
    if steps.count == 1 and steps.optimizer == "sgd":
        # The learning rate only scales; without it nothing is lost to rounding.
        return {name: start[name] - g for name, g in slope(dict(start)).items()}
    now = dict(start)
    mean = {name: torch.zeros_like(p) for name, p in start.items()}
    square = dict(mean)
    for step in range(1, steps.count + 1):
        gradient = slope(now)
        for name, g in gradient.items():
            g = g + steps.proximal * (now[name] - start[name])
            if steps.optimizer == "adam":
                mean[name] = ADAM_MOMENTUM * mean[name] + (1 - ADAM_MOMENTUM) * g
                square[name] = ADAM_SQUARES * square[name] + (1 - ADAM_SQUARES) * g * g
                root = (square[name] / (1 - ADAM_SQUARES**step) + ADAM_CORNER**2).sqrt()
                g = mean[name] / (1 - ADAM_MOMENTUM**step) / root
            now[name] = now[name] - steps.learning_rate * g
    return now
