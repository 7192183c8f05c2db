"""Opacus' accumulation and scaling of clipped sums, with noise of our own source."""

from collections.abc import Collection

import torch
from opacus.optimizers import DPOptimizerFastGradientClipping
from torch import nn

from securefed.privacy.noise import RandomSource, add_gaussian
from securefed.training.per_patient import PatientGradients

CLIPPED = 1 - 1e-4  # of clip_norm: what rounding may add stays below it


class NoisingOptimizer(DPOptimizerFastGradientClipping):  # type: ignore[misc]  # untyped
    """Sums clipped gradients of patients, part by part, adds noise once; never steps by itself."""

    def __init__(
        self,
        parameters: Collection[nn.Parameter],
        clip_norm: float,
        noise_multiplier: float,
        expected_batch_size: float,
        source: RandomSource,
    ) -> None:
        super().__init__(
            torch.optim.SGD(parameters, lr=0.0),
            noise_multiplier=noise_multiplier,
            max_grad_norm=CLIPPED * clip_norm,
            expected_batch_size=expected_batch_size,
        )
        self._clip_norm = clip_norm
        self._source = source

    def accumulate_clipped(self, gradients: PatientGradients) -> None:
        """Add the sum of a part's gradients, each clipped to CLIPPED of clip_norm."""
        # As Opacus has it, which adds 1e-6 to a norm before it divides.
        factors = (self.max_grad_norm / (gradients.lengths + 1e-6)).clamp(max=1.0)
        totals = gradients.weighted_sum(factors).values()
        for parameter, total in zip(self.params, totals, strict=True):
            summed = parameter.summed_grad
            parameter.summed_grad = total if summed is None else summed.add_(total)

    def finish(self) -> None:
        """Add the noise and scale: afterwards each parameter's `grad` is the noised mean."""
        for parameter in self.params:
            if parameter.summed_grad is None:  # nobody was drawn, which is a step too
                parameter.summed_grad = torch.zeros_like(parameter)
        self.add_noise()
        self.scale_grad()

    def add_noise(self) -> None:
        """N(0, (noise_multiplier * max_grad_norm)^2) on every parameter's sum."""
        std = self.noise_multiplier * self._clip_norm
        for parameter in self.params:
            parameter.grad = add_gaussian(parameter.summed_grad, std, self._source)
            # The average of two noisings of one sum would be a second release: no sum, no second.
            parameter.summed_grad = None
