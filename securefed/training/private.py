"""One DP-SGD step (Abadi et al. 2016, algorithm 1), with the patient as the unit.

    draw      each patient enters the step independently, with the accounted probability
    gradient  one vector per patient: all slices of a patient meet in one loss, so that clipping
              bounds what the patient contributes, however many slices there are
    clip      to (1 - 1e-4) clip_norm, over all parameters together, in single precision or better
    noise     N(0, (noise_multiplier * clip_norm)^2) on the sum, from a `RandomSource`
    mean      divided by the *expected* batch size, since the actual one is private

Opacus' DPOptimizer clips, accumulates over chunks and scales; only its noise is replaced (its
generator is not cryptographic, and its secure mode needs a package that no longer exists). The
per-patient gradients come from torch.func, hence are exact for any differentiable model: no
layer-by-layer rules, no wrapped module, no hooks left behind.

Not protected: what the caller does with the gradient beside adding public terms to it, the loss
values, time and memory that depend on how many patients were drawn, and parameters that are moved
by anything else than these gradients (see `require_declared_public`).

Norms and the sum over patients are taken in single precision, which may overshoot a bound (by
1.3e-5 of it on large tensors, a review found). So patients are clipped to a little less than
clip_norm, and what the accountant assumes holds with room to spare.
"""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from securefed.errors import ConfigurationError, PrivacyError
from securefed.privacy.noise import RandomSource

Forward = Callable[..., Tensor]
LossOfPatient = Callable[[Forward, Mapping[str, Tensor]], Tensor]


def poisson_sample(
    patients: int, sample_rate: float, source: RandomSource
) -> npt.NDArray[np.int64]:
    """Draw each of `patients` independently with probability `sample_rate`.

    Returns:
        The drawn indices, increasing; how many is random, and none is a possible draw.

    Raises:
        ConfigurationError: a rate outside (0, 1].
    """
    if not 0 < sample_rate <= 1:
        raise ConfigurationError(f"sample_rate must be in (0, 1], got {sample_rate}")
    return np.flatnonzero(source.uniform(patients) < sample_rate).astype(np.int64)


def private_gradients(
    model: nn.Module,
    loss_of_patient: LossOfPatient,
    batch: Mapping[str, Tensor],
    *,
    clip_norm: float,
    noise_multiplier: float,
    expected_batch_size: float,
    source: RandomSource,
    chunk: int | None = None,
) -> dict[str, Tensor]:
    """The noised mean gradient of one Poisson batch; the model is not moved.

    Guarantee: with patients drawn by `poisson_sample`, the result is one step of the
    Poisson-subsampled Gaussian mechanism that `accounting.Event` prices, under add/remove
    adjacency of patients. Terms that touch no patient (FedProx' proximal term, weight decay) are
    for the caller to add to the result: inside the loss they would be clipped away.

    A patient whose gradient is not finite contributes zero, which clipping allows; an error would
    tell that this patient was drawn. Gradients of single patients are gone when this returns.

    Args:
        model: trainable parameters in float32 or float64; `p.grad` is cleared.
        loss_of_patient: (forward, patient) -> loss of shape (). `forward(*args)` calls the model;
            `patient` holds the tensors of `batch` without their first axis.
        batch: tensors with the drawn patients as first axis, of any length, zero included.
        clip_norm: bound on the norm of one patient's gradient, > 0.
        noise_multiplier: standard deviation of the noise over clip_norm, >= 0.
        expected_batch_size: sample_rate times the number of patients, > 0.
        source: of the noise. Dropout draws from torch's own generator.
        chunk: most patients whose gradients are in memory at once; None takes all.

    Returns:
        name -> gradient, for every trainable parameter, as the model names and shapes it.

    Raises:
        ConfigurationError: a setting out of its range, batch statistics, parameters in half
            precision, or a batch whose tensors differ in their first axis.
        PrivacyError: a loss that is not one number per patient, or that reaches parameters
            other than through `forward`.
    """
    # Opacus takes as long to load as torch, and without noise nothing needs it.
    from securefed.training.noising_optimizer import NoisingOptimizer

    _check_settings(clip_norm, noise_multiplier, expected_batch_size, chunk)
    refuse_batch_statistics(model)
    parameters = _trainable(model)
    patients = _count_patients(batch)
    optimizer = NoisingOptimizer(
        parameters.values(), clip_norm, noise_multiplier, expected_batch_size, source
    )
    size = chunk or max(patients, 1)
    starts = range(0, max(patients, 1), size)  # an empty batch is a step too: one empty chunk
    try:
        for start in starts:
            part = {name: tensor[start : start + size] for name, tensor in batch.items()}
            rows = patient_gradients(model, loss_of_patient, part)
            optimizer.zero_grad()
            for name, parameter in parameters.items():
                parameter.grad_sample = rows[name]  # type: ignore[attr-defined]
            # All chunks but the last only clip and accumulate.
            optimizer.signal_skip_step(start != starts[-1])
            optimizer.pre_step()
        return {name: _noised(parameter) for name, parameter in parameters.items()}
    finally:
        for parameter in parameters.values():
            _forget(parameter)


def patient_gradients(
    model: nn.Module, loss_of_patient: LossOfPatient, batch: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Exact gradient of each patient's loss, neither clipped nor noised: private data.

    Returns:
        name -> (patients, *parameter shape) for every trainable parameter; zero for a patient with
        a gradient that is not finite.

    Raises:
        PrivacyError: see `private_gradients`.
    """
    parameters = {name: parameter.detach() for name, parameter in _trainable(model).items()}
    patients = _count_patients(batch)
    if patients == 0:
        return {name: value.new_zeros((0, *value.shape)) for name, value in parameters.items()}

    def loss(parameters: dict[str, Tensor], patient: Mapping[str, Tensor]) -> Tensor:
        def forward(*inputs: Any, **options: Any) -> Tensor:
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

    data = {name: tensor.detach() for name, tensor in batch.items()}
    of_each = vmap(grad_and_value(loss), in_dims=(None, 0), randomness="different")
    gradients, values = of_each(parameters, data)
    if values.requires_grad:
        # Only the model's own parameters still track gradients here: the loss took a way around
        # `forward`, and that part of its gradient would be dropped without a word.
        raise PrivacyError(
            "the loss uses parameters other than through forward",
            hint="add terms without patients, such as FedProx' proximal term, to the gradients "
            "that private_gradients returns",
        )
    each = [g.reshape(patients, -1).isfinite().all(dim=1) for g in gradients.values()]
    finite = torch.stack(each).all(dim=0)  # (patients,)
    return {
        name: torch.where(finite.view(-1, *(1,) * (g.dim() - 1)), g, 0.0)
        for name, g in gradients.items()
    }


def _noised(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        raise PrivacyError("a trainable parameter got no noised gradient")
    return parameter.grad


def _forget(parameter: nn.Parameter) -> None:
    parameter.grad = None
    for name in ("grad_sample", "summed_grad"):
        if hasattr(parameter, name):
            delattr(parameter, name)


def _trainable(model: nn.Module) -> dict[str, nn.Parameter]:
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


def _count_patients(batch: Mapping[str, Tensor]) -> int:
    lengths = {name: len(tensor) for name, tensor in batch.items()}
    if len(set(lengths.values())) != 1:
        raise ConfigurationError(f"the tensors of a batch differ in their first axis: {lengths}")
    return next(iter(lengths.values()))


def _check_settings(
    clip_norm: float, noise_multiplier: float, expected_batch_size: float, chunk: int | None
) -> None:
    for name, value in (("clip_norm", clip_norm), ("expected_batch_size", expected_batch_size)):
        if not (math.isfinite(value) and value > 0):
            raise ConfigurationError(f"{name} must be positive and finite, got {value}")
    if not (math.isfinite(noise_multiplier) and noise_multiplier >= 0):
        raise ConfigurationError(
            f"noise_multiplier must be finite and not negative, got {noise_multiplier}"
        )
    if chunk is not None and chunk < 1:
        raise ConfigurationError(f"chunk must be at least 1, got {chunk}")


def refuse_batch_statistics(module: nn.Module) -> None:
    """Refuse layers that mix the patients of a batch, or keep statistics over patients.

    One patient then moves the gradients of all others, and running averages leave unnoised.

    Raises:
        ConfigurationError: naming the first such layer.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase) and (
            not isinstance(layer, nn.modules.instancenorm._InstanceNorm)
            or layer.track_running_stats
        ):
            raise ConfigurationError(
                f"layer {name or 'itself'} ({type(layer).__name__}) uses statistics over patients",
                hint="use GroupNorm, which normalises each image alone",
            )


def require_declared_public(model: nn.Module, public: Collection[str]) -> None:
    """Refuse frozen parameters that nobody declared public.

    DP on a head alone is no DP if the frozen encoder below was trained on the same patients
    without it. Whether a declaration is true cannot be checked here; it is made by name, in the
    open: "this was initialised without any hospital's data, or released under its own accounting".

    Args:
        public: names of parameters, or of modules whose parameters are meant.

    Raises:
        PrivacyError: naming the first frozen parameter that is not declared.
        ConfigurationError: a declared name that the model does not have.
    """
    parts = {name for name, _ in model.named_parameters()} | {n for n, _ in model.named_modules()}
    for name in public:
        if name not in parts:
            raise ConfigurationError(f"{name!r} is declared public, but the model has no such part")
    for name, parameter in model.named_parameters():
        declared = any(name == part or name.startswith(f"{part}.") for part in public)
        if not parameter.requires_grad and not declared:
            raise PrivacyError(
                f"parameter {name} is frozen but not declared public",
                hint="train it with differential privacy too, or declare it public if no patient "
                "of this federation ever shaped it",
            )
