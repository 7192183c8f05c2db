"""One DP-SGD step (Abadi et al. 2016, algorithm 1), with the patient as the unit.

    draw      each patient enters the step independently, with the accounted probability
    gradient  one vector per patient: all slices of a patient meet in one loss, so that clipping
              bounds what the patient contributes, however many slices there are
    clip      to (1 - 1e-4) clip_norm, over all parameters together, in single precision or better
    noise     N(0, (noise_multiplier * clip_norm)^2) on the sum, from a `RandomSource`
    mean      divided by the *expected* batch size, since the actual one is private

Opacus' DPOptimizer accumulates over parts and scales; its noise is replaced (its generator is not
cryptographic, and its secure mode needs a package that no longer exists), and what it accumulates
are sums of clipped gradients by book-keeping (`per_patient`), exact for any differentiable model:
no wrapped module, no hooks left behind.

Not protected: what the caller does with the gradient beside adding public terms to it, the loss
values, time and memory that depend on how many patients were drawn and on their slices, and
parameters that are moved by anything else than these gradients (see `require_declared_public`).

Lengths and the sum over patients are rounded, and might overshoot a bound (by 1.3e-5 of it on large
tensors, a review found). So patients are clipped to a little less than clip_norm, and what the
accountant assumes holds with room to spare.
"""

import math
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from securefed.errors import ConfigurationError, PrivacyError
from securefed.privacy.noise import RandomSource
from securefed.training.per_patient import (
    LossOfPatient,
    PatientGradients,
    differentiate,
    trained_parameters,
)


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
    parts: Iterable[Mapping[str, Tensor]],
    *,
    clip_norm: float,
    noise_multiplier: float,
    expected_batch_size: float,
    source: RandomSource,
    made_up: Mapping[str, Tensor] | None = None,
    kept: Mapping[str, Tensor] | None = None,
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
            `patient` holds the tensors of a part without their first axis.
        parts: the drawn patients, however divided, one part in memory at a time; tensors with
            patients as first axis, of any length, zero included. No part is a step too.
        clip_norm: bound on the norm of one patient's gradient, > 0.
        noise_multiplier: standard deviation of the noise over clip_norm, >= 0.
        expected_batch_size: sample_rate times the number of patients, > 0.
        source: of the noise. Dropout draws from torch's own generator.
        made_up: gradients of drawn records that have no loss (canaries), by parameter, (records,
            *shape); clipped and summed as those of patients.
        kept: by parameter, 1 for coordinates of it that are kept and 0 for others; the rest keep
            all. Each record's gradient is restricted to them before it is clipped, so that the
            bound is on what is kept; elsewhere the result is zero, noise included.

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

    kept = kept or {}
    _check_settings(clip_norm, noise_multiplier, expected_batch_size)
    refuse_batch_statistics(model)
    parameters = trained_parameters(model)
    optimizer = NoisingOptimizer(
        parameters.values(), clip_norm, noise_multiplier, expected_batch_size, source
    )
    try:
        for part in parts:
            gradients = _finite_gradients(model, loss_of_patient, part)
            optimizer.accumulate_clipped(gradients.restricted(kept))
        if made_up is not None:
            optimizer.accumulate_clipped(PatientGradients.of_rows(made_up).restricted(kept))
        optimizer.finish()
        noised = {name: _noised(parameter) for name, parameter in parameters.items()}
        for name, ones in kept.items():
            noised[name] = noised[name] * ones
        return noised
    finally:
        for parameter in parameters.values():
            _forget(parameter)


def _finite_gradients(
    model: nn.Module, loss_of_patient: LossOfPatient, part: Mapping[str, Tensor]
) -> PatientGradients:
    """Those of all patients whose gradient is finite; the others count zero."""
    gradients = differentiate(model, loss_of_patient, part)
    finite = gradients.lengths.isfinite()
    if bool(finite.all()):
        return gradients
    # Again without them: a weight of zero does not silence a factor that is not finite.
    rest = {name: tensor[finite] for name, tensor in part.items()}
    return _finite_gradients(model, loss_of_patient, rest)


def _noised(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        raise PrivacyError("a trainable parameter got no noised gradient")
    return parameter.grad


def _forget(parameter: nn.Parameter) -> None:
    parameter.grad = None
    if hasattr(parameter, "summed_grad"):
        del parameter.summed_grad


def _check_settings(clip_norm: float, noise_multiplier: float, expected_batch_size: float) -> None:
    for name, value in (("clip_norm", clip_norm), ("expected_batch_size", expected_batch_size)):
        if not (math.isfinite(value) and value > 0):
            raise ConfigurationError(f"{name} must be positive and finite, got {value}")
    if not (math.isfinite(noise_multiplier) and noise_multiplier >= 0):
        raise ConfigurationError(
            f"noise_multiplier must be finite and not negative, got {noise_multiplier}"
        )


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
