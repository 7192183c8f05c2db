"""Updates of one client, as the run's own mechanism would make them, for scenes and controls.

The worst case is not in any exposure, so it is made here: the gradient of a small batch under the
run's network, clipped and noised where the run is private, as one SGD step in float32. The noise is
simulated from the audit's seed; a real run draws it from a cryptographic generator.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from securefed.model import task
from securefed.model.network import ENCODER, FusionNetwork
from securefed.model.patients import PatientTensors


@dataclass(frozen=True)
class Mechanism:
    """One SGD step of a client.

    Attributes:
        learning_rate: of the client.
        clipped_to: bound on a patient's gradient over all trained parameters; None: no clipping.
        noise_std: of the noise on the sum of clipped gradients, per entry; 0 for none.
    """

    learning_rate: float
    clipped_to: float | None
    noise_std: float


PLAIN = Mechanism(learning_rate=0.3, clipped_to=None, noise_std=0.0)


def client_update(
    network: FusionNetwork,
    shared: Sequence[str],
    batch: PatientTensors,
    mechanism: Mechanism,
    rng: np.random.Generator,
    *,
    encoded: bool,
) -> NDArray[np.float32]:
    """Change of the shared parameters by one step on `batch`, (P,); the network is not moved.

    Args:
        batch: tokens if `encoded`, else images; the gradient is divided by its patients.
    """
    parameters = dict(network.named_parameters())
    # What is clipped together: all that the run trains. Frozen encoders have no part in it.
    trained = {n: p for n, p in parameters.items() if not (encoded and n.startswith(ENCODER))}
    total = {name: torch.zeros_like(p) for name, p in trained.items()}
    for number in torch.arange(batch.patients)[:, None]:
        gradient = _patient_gradient(network, trained, batch.of_patients(number), encoded)
        scale = 1.0
        if mechanism.clipped_to is not None:
            norm = float(torch.cat([g.flatten() for g in gradient.values()]).double().norm())
            scale = min(1.0, mechanism.clipped_to / max(norm, 1e-12))
        for name, value in gradient.items():
            total[name] += scale * value
    before = _flat(parameters, shared)
    step = _flat(total, shared).astype(np.float64)
    step += mechanism.noise_std * rng.standard_normal(step.shape)
    step *= mechanism.learning_rate / max(1, batch.patients)
    # In float32, as a client sends it: the rounding is part of what an attacker gets.
    return (before - step.astype(np.float32)) - before


def _patient_gradient(
    network: FusionNetwork,
    trained: Mapping[str, Tensor],
    patient: PatientTensors,
    encoded: bool,
) -> dict[str, Tensor]:
    logits = network(patient.images, patient.present, encoded=encoded)
    loss = task.loss(logits, patient.label, patient.weight)
    gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(trained.items(), gradients, strict=True)
    }


def _flat(tensors: Mapping[str, Tensor], names: Sequence[str]) -> NDArray[np.float32]:
    vector: NDArray[np.float32] = torch.cat([tensors[n].detach().flatten() for n in names]).numpy()
    return vector
