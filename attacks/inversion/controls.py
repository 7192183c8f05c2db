"""Controls of gradient inversion: where it must succeed, and where it must fail.

    positive   the reference LeNet, one picture, one gradient in the clear: the picture comes back
    null       a Gaussian vector of the same norm in place of the gradient: nothing may come back,
               or the prior (smoothness, box) would pass for a reconstruction
    null       the gradient clipped to norm 1 with noise of standard deviation 1 per coordinate

Labels are not given: they are inferred from the bias gradient, which the positive control thereby
tests too. The same search runs in all three, on the same pictures.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attacks.findings import Control
from attacks.inversion import NAME
from attacks.inversion.gradient_inversion import Recipe, infer_labels, invert
from attacks.inversion.quality import psnr, psnr_over_mean_colour, ssim
from attacks.inversion.reference_lenet import (
    CLASSES,
    IMAGE,
    ReferenceLeNet,
    gradients_of,
    smooth_picture,
)
from attacks.result import AttackResult, Effort, Progress

PLAIN = "plain, one image, reference LeNet 32x32"
NOISE = "norm-matched noise gradient"
PRIVATE = "under DP, clip 1, sigma 1"
PICTURES = {Effort.QUICK: 1, Effort.DEFAULT: 3, Effort.THOROUGH: 10}
RECIPE = Recipe(iterations=400, step_size=0.05, total_variation=0.03)


@dataclass(frozen=True)
class Quality:
    """One reconstruction's figures; the first two in dB."""

    psnr_db: float
    psnr_over_mean_colour_db: float
    ssim: float
    label_right: bool


def controls(effort: Effort, seed: int, progress: Progress) -> AttackResult:
    """All controls; a control is reported once per picture, and every picture must meet the gate.

    Args:
        seed: of network, pictures, labels, noise and starts.
    """
    rng = np.random.default_rng([seed, 0])
    measured: list[Control] = []
    details: dict[str, list[dict[str, float]]] = {}
    count = PICTURES[effort]
    scenes = [(name, number) for number in range(count) for name in (PLAIN, NOISE, PRIVATE)]
    seeds = rng.integers(2**31, size=count).tolist()
    for done, (name, number) in enumerate(scenes):

        def share(part: float, done: int = done) -> None:
            progress((done + part) / len(scenes))

        quality = reconstruct(name, seeds[number], share)
        figures = {
            "psnr_db": quality.psnr_db,
            "psnr_over_mean_colour_db": quality.psnr_over_mean_colour_db,
        }
        for metric, value in figures.items():
            if name == PLAIN or metric == "psnr_over_mean_colour_db":
                measured.append(Control(NAME, name, metric, value))
        extra = {"ssim": quality.ssim, "label_right": float(quality.label_right)}
        details.setdefault(name, []).append(figures | extra)
    return AttackResult(controls=tuple(measured), details=details)


def reconstruct(control: str, seed: int, progress: Progress) -> Quality:
    """Run one control on one picture; `control` is PLAIN, NOISE or PRIVATE."""
    network, picture = ReferenceLeNet(seed), smooth_picture(seed)
    label = torch.tensor([seed % CLASSES])
    noise = torch.Generator().manual_seed(seed + 1)
    gradient = gradients_of(network, label)(picture[None]).detach()  # (1, P)
    observed = _observed(control, gradient, noise)
    # The gradient ends with the classifier's bias, one number per class.
    guessed = infer_labels(observed[:, -CLASSES:])
    found = invert(gradients_of(network, guessed), observed, IMAGE, RECIPE, seed, None, progress)
    true, image = picture.numpy(), found.images[0].numpy()
    over = psnr_over_mean_colour(true, image)
    return Quality(psnr(true, image), over, ssim(true, image), bool(guessed == label))


def _observed(control: str, gradient: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(gradient.shape, generator=generator)
    observed = gradient
    if control == NOISE:
        observed = noise * (gradient.norm() / noise.norm())
    elif control == PRIVATE:
        observed = gradient / gradient.norm().clamp_min(1.0) + noise
    return observed
