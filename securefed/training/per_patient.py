"""Gradients of single patients: all of a chunk's, from one backward pass.

A patient's loss is a function of that patient's tensors alone, mapped over the chunk by
torch.func.vmap, so that no model can mix patients. Each patient has parameters of its own in it
(the same memory, looked at several times), and what torch differentiates with respect to them is
one gradient a patient. Layers do better (`bookkeeping`): of a weight they know the two factors, and

    GHOST T^2 < parameters    the factors are kept: lengths by ghost norms, the sum by one product
    otherwise                 one gradient a patient, at once

with T the places a patient's gradient is summed over. The paper (section 3.2) has 2 for GHOST,
where memory breaks even; time does so earlier, since one gradient a patient needs no second product
(docs/decisions/0042). Of one patient alone the gradient is the sum, and nothing is kept. The choice
follows from shapes only, never from timing: the same patients give the same bits.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from securefed.errors import ConfigurationError, PrivacyError
from securefed.training.bookkeeping import BookKeeping
from securefed.training.factors import Factors, Rows, flat

GHOST = 200

Forward = Callable[..., Tensor]
LossOfPatient = Callable[[Forward, Mapping[str, Tensor]], Tensor]


class PatientGradients:
    """The gradients of several patients, as far apart as need be: private data.

    Args:
        like: the trained parameters, by name.
    """

    def __init__(self, patients: int, like: Mapping[str, Tensor]) -> None:
        self._patients = patients
        self._like = like
        self._parts: dict[str, Factors] = {}

    @classmethod
    def of_rows(cls, rows: Mapping[str, Tensor]) -> "PatientGradients":
        """Gradients that are known: name -> (patients, *parameter shape), for all parameters."""
        like = {name: values.new_empty(values.shape[1:]) for name, values in rows.items()}
        gradients = cls(count_patients(rows), like)
        for name, values in rows.items():
            gradients.write(name, Rows(values))
        return gradients

    def restricted(self, kept: Mapping[str, Tensor]) -> "PatientGradients":
        """The same with these parameters' gradients times zeros and ones, for every patient.

        Lengths of a part of a gradient do not follow from its factors: rows are made of them.
        """
        if not kept:
            return self
        gradients = PatientGradients(self._patients, self._like)
        gradients._parts = dict(self._parts)
        for name in kept.keys() & self._parts.keys():
            gradients._parts[name] = Rows(self._parts[name].rows() * kept[name])
        return gradients

    def write(self, parameter: str, factors: Factors) -> None:
        """Add to a parameter's gradients."""
        if parameter in self._parts:
            factors = Rows(self._parts[parameter].rows() + factors.rows())
        elif not self.keeps_factors(parameter, factors.places):
            factors = Rows(factors.rows())
        self._parts[parameter] = factors

    def keeps_factors(self, parameter: str, places: int) -> bool:
        entries = self._like[parameter].numel()
        return self._patients > 1 and GHOST * places**2 < entries

    @cached_property
    def lengths(self) -> Tensor:
        """Length of each patient's gradient over all parameters, (patients,) float64."""
        device = next(iter(self._like.values())).device
        total = torch.zeros(self._patients, dtype=torch.float64, device=device)
        for factors in self._parts.values():
            total += factors.squares()
        return total.sqrt()

    def weighted_sum(self, weights: Tensor) -> dict[str, Tensor]:
        """Name -> the sum of all patients' gradients, each times its weight (patients,)."""
        return {
            name: self._parts[name].weighted_sum(weights)
            if name in self._parts
            else torch.zeros_like(value)
            for name, value in self._like.items()
        }

    def rows(self) -> dict[str, Tensor]:
        """Name -> each patient's gradient, (patients, *parameter shape)."""
        return {
            name: self._parts[name].rows()
            if name in self._parts
            else value.new_zeros((self._patients, *value.shape))
            for name, value in self._like.items()
        }


def differentiate(
    model: nn.Module, loss_of_patient: LossOfPatient, batch: Mapping[str, Tensor]
) -> PatientGradients:
    """Gradients of each patient's loss, neither clipped nor noised; finite or not.

    Args:
        batch: tensors with the patients as first axis.

    Raises:
        ConfigurationError, PrivacyError: see `private.private_gradients`.
    """
    trained = trained_parameters(model)
    like = {name: parameter.detach() for name, parameter in trained.items()}
    patients = count_patients(batch)
    gradients = PatientGradients(patients, like)
    if patients == 0:
        return gradients

    def loss(parameters: dict[str, Tensor], patient: Mapping[str, Tensor]) -> Tensor:
        names = {id(parameter): name for name, parameter in parameters.items()}

        def forward(*inputs: Any, **options: Any) -> Tensor:
            with BookKeeping(gradients, names):
                output: Tensor = functional_call(model, parameters, inputs, options)
            return output

        value = loss_of_patient(forward, patient)
        if value.shape != ():
            # A loss of shape (n, 1) broadcasts against weights of shape (n,): clipping by ghost
            # norms then silently fails. Here it cannot happen, and is refused all the same.
            raise PrivacyError(
                f"the loss of a patient must be a single number, got shape {tuple(value.shape)}",
                hint="pool over slices and squeeze the last axis of the logits",
            )
        return value

    with torch.enable_grad():
        own = {name: p.expand(patients, *p.shape).requires_grad_() for name, p in like.items()}
        data = {name: tensor.detach() for name, tensor in batch.items()}
        losses = vmap(loss, randomness="different")(own, data)  # (patients,)
    if losses.requires_grad:
        _book_the_rest(losses, own, trained, gradients)
    return gradients


def _book_the_rest(
    losses: Tensor,
    own: Mapping[str, Tensor],
    trained: Mapping[str, nn.Parameter],
    gradients: PatientGradients,
) -> None:
    """Differentiate; whatever came to a parameter beside layers is a row for each patient."""
    inputs = [*own.values(), *trained.values()]
    found = torch.autograd.grad(losses.sum(), inputs, allow_unused=True)
    if any(gradient is not None for gradient in found[len(own) :]):
        # The loss took a way around `forward`, and that part would be dropped without a word.
        raise PrivacyError(
            "the loss uses parameters other than through forward",
            hint="add terms without patients, such as FedProx' proximal term, to the gradients "
            "that private_gradients returns",
        )
    for name, gradient in zip(own, found, strict=False):
        if gradient is not None:
            gradients.write(name, Rows(gradient))


def patient_gradients(
    model: nn.Module, loss_of_patient: LossOfPatient, batch: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Exact gradient of each patient's loss, neither clipped nor noised: private data.

    Returns:
        name -> (patients, *parameter shape) for every trainable parameter; zero for a patient with
        a gradient that is not finite.

    Raises:
        PrivacyError: see `private.private_gradients`.
    """
    rows = differentiate(model, loss_of_patient, batch).rows()
    each = [flat(g).isfinite().all(dim=1) for g in rows.values()]
    finite = torch.stack(each).all(dim=0)  # (patients,)
    return {
        name: torch.where(finite.view(-1, *(1,) * (g.dim() - 1)), g, 0.0)
        for name, g in rows.items()
    }


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name -> parameter that trains.

    Raises:
        ConfigurationError: there is none, or one in half precision.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise ConfigurationError("the model has no trainable parameters")
    for name, parameter in parameters.items():
        if parameter.dtype not in (torch.float32, torch.float64):
            # bfloat16 norms are off by up to 1/256, and so would the clipping be.
            raise ConfigurationError(
                f"parameter {name} is {parameter.dtype}; clipping needs single precision",
                hint="keep parameters in float32 and use autocast inside the loss",
            )
    return parameters


def count_patients(batch: Mapping[str, Tensor]) -> int:
    """Length of the first axis; ConfigurationError where the tensors of a batch differ in it."""
    lengths = {name: len(tensor) for name, tensor in batch.items()}
    if len(set(lengths.values())) != 1:
        raise ConfigurationError(f"the tensors of a batch differ in their first axis: {lengths}")
    return next(iter(lengths.values()))
