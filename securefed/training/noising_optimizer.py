"""Opacus' clipping, accumulation and scaling, with noise of our own source."""

from collections.abc import Collection

import torch
from opacus.optimizers import DPOptimizer
from torch import nn

from securefed.privacy.noise import RandomSource, add_gaussian

CLIPPED = 1 - 1e-4  # of clip_norm: what rounding may add stays below it


class NoisingOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus ships no types
    """Clips and sums the parameters' `grad_sample`, adds noise once; never steps by itself."""

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

    def add_noise(self) -> None:
        """N(0, (noise_multiplier * max_grad_norm)^2) on every parameter's sum."""
        std = self.noise_multiplier * self._clip_norm
        for parameter in self.params:
            parameter.grad = add_gaussian(parameter.summed_grad, std, self._source)
            # The average of two noisings of one sum would be a second release: no sum, no second.
            parameter.summed_grad = None
