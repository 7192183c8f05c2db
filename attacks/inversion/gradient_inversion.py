"""Gradient inversion: images whose update would have been the one that was seen.

The images x are sought that minimise, for an observed update u of the shared parameters,

    1 - cos(update(x), u) + total_variation * TV(x)                  x in [0, 1]

by signed Adam, from several random starts (Geiping et al. 2020, arXiv 2003.14053, section 4; the
matching idea is Zhu et al. 2019). `update` is any differentiable map, given as a closure
(`local_updates` has those of the two-input network), so that one engine serves a single gradient,
several unrolled local steps, one image, or a batch of patients. Labels are the closure's;
`infer_labels` and `count_labelled` read them off the last bias (Zhao et al. 2020, section 3).

Two choices differ from the paper's code. The step falls linearly to zero, not to a tenth after 3/8
of the iterations: a signed step goes its length whatever the slope, so that the sum of steps is how
far a pixel can travel, and few iterations end before it arrives. TV counts the difference to black
beyond all four edges: scans of heads lie in air. (That code's zero-padded convolution counts it at
the lower and right ones.)

Several problems are solved at once, each with its own observed update: the first axis. The
derivative of the cosine and of TV are written out; autograd only goes back through the update.

Not covered: learned image priors, and knowledge of other patients. What this engine cannot
reconstruct, a better prior might: failing here is no proof of safety.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.errors import InvalidScores
from attacks.result import Progress

Simulate = Callable[[Tensor], Tensor]  # images (problems, *shape) -> updates (problems, P)

MOMENTUM, SQUARES, STEADY = 0.9, 0.999, 1e-8  # Adam (Kingma & Ba 2015)
START_SPREAD = 0.03  # of starts near a given image, so that restarts differ
SMALLEST_NORM = 1e-20  # an update of nothing has no direction; keeps the cosine finite


@dataclass(frozen=True)
class Recipe:
    """How hard to search.

    Attributes:
        iterations: per start.
        step_size: of signed Adam at the start, in units of the image range; falls linearly to 0.
        total_variation: weight of the mean absolute difference of neighbouring pixels.
        restarts: random starts; the one whose update fits best is kept.
    """

    iterations: int
    step_size: float = 0.05
    total_variation: float = 0.03
    restarts: int = 1

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.restarts < 1:
            raise InvalidScores(
                f"{self.iterations} iterations and {self.restarts} restarts find nothing",
                hint="both must be at least 1",
            )
        if not (self.step_size > 0 and self.total_variation >= 0):
            raise InvalidScores(
                f"step size {self.step_size}, total variation {self.total_variation}",
                hint="a positive step and a weight of at least 0",
            )


@dataclass(frozen=True, eq=False)
class Inversion:
    """What the search found.

    Attributes:
        images: (problems, *shape) in [0, 1].
        distance: 1 - cosine between their update and the observed one, (problems,), 0 to 2.
    """

    images: Tensor = field(repr=False)
    distance: Tensor = field(repr=False)


def invert(
    simulate: Simulate,
    observed: Tensor,
    shape: tuple[int, ...],
    recipe: Recipe,
    seed: int,
    active: Tensor | None = None,
    progress: Progress | None = None,
    around: Tensor | None = None,
) -> Inversion:
    """Search images that explain the observed updates, one problem per row.

    Args:
        simulate: differentiable; row i of its result may depend on row i of its input only.
        observed: (problems, P); only directions count.
        shape: of one problem's images; the last two axes are rows and columns of pixels.
        seed: of the random starts.
        active: broadcasts to (problems, *shape), bool; where False (a missing modality) the image
            is not searched and stays grey.
        around: an image that starts are drawn near (what an attacker knows of heads in general),
            broadcasts to (problems, *shape); None: starts are standard normal noise.

    Raises:
        InvalidScores: an observed update that is not finite or has no direction, or a closure
            whose updates have another shape than the observed ones.
    """
    _check(observed)
    starts = torch.Generator().manual_seed(seed)
    directions = observed / observed.norm(dim=1, keepdim=True)  # (problems, P)
    best: Inversion | None = None
    for restart in range(recipe.restarts):
        images = _start((len(observed), *shape), around, starts)
        if active is not None:
            images = torch.where(active, images, 0.5)

        def share(done: float, restart: int = restart) -> None:
            if progress:
                progress((restart + done) / recipe.restarts)

        _descend(simulate, directions, images, recipe, active, share)
        found = Inversion(images, _distance(simulate, directions, images))
        best = found if best is None else _better(best, found)
    if best is None:
        raise InvalidScores("no start was tried")
    return best


def _start(shape: tuple[int, ...], around: Tensor | None, drawn: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=drawn)
    # The box is enforced from the first step on; clamping before it converges more slowly.
    return noise if around is None else (around + START_SPREAD * noise).clamp(0, 1)


def _check(observed: Tensor) -> None:
    if observed.ndim != 2 or not observed.numel():
        raise InvalidScores(f"observed updates have shape {tuple(observed.shape)}, not (n, P)")
    if not bool(observed.isfinite().all()):
        raise InvalidScores("an observed update holds values that are not finite")
    if not bool((observed.norm(dim=1) > 0).all()):
        raise InvalidScores(
            "an observed update is zero everywhere: it has no direction to match",
            hint="an empty Poisson batch without noise gives one; take another round",
        )


def _descend(
    simulate: Simulate,
    directions: Tensor,
    images: Tensor,
    recipe: Recipe,
    active: Tensor | None,
    progress: Progress,
) -> None:
    """Signed Adam, in place on `images`."""
    images.requires_grad_(True)
    mean, square = torch.zeros_like(images), torch.zeros_like(images)
    for step in range(recipe.iterations):
        downhill = _slope(simulate, directions, images)
        with torch.no_grad():
            _add_variation_slope(downhill, images, recipe.total_variation)
            if active is not None:
                downhill *= active
            sign = downhill.sign_()
            mean.lerp_(sign, 1 - MOMENTUM)
            square.mul_(SQUARES).addcmul_(sign, sign, value=1 - SQUARES)
            scale = square.sqrt().mul_(1 / math.sqrt(1 - SQUARES ** (step + 1))).add_(STEADY)
            rate = recipe.step_size * (1 - step / recipe.iterations)
            images.addcdiv_(mean, scale, value=-rate / (1 - MOMENTUM ** (step + 1)))
            images.clamp_(0.0, 1.0)
        progress((step + 1) / recipe.iterations)
    images.requires_grad_(False)


def _slope(simulate: Simulate, directions: Tensor, images: Tensor) -> Tensor:
    """Derivative of the summed cosine distances in the images."""
    updates = simulate(images)
    if updates.shape != directions.shape:
        raise InvalidScores(
            f"simulated updates have shape {tuple(updates.shape)}, "
            f"observed ones {tuple(directions.shape)}"
        )
    with torch.no_grad():
        # d(1 - g.t/|g|)/dg = (cos * g/|g| - t) / |g|, with |t| = 1
        norm = updates.norm(dim=1, keepdim=True).clamp_min_(SMALLEST_NORM)
        unit = updates / norm
        cosine = (unit * directions).sum(dim=1, keepdim=True)
        upstream = unit.mul_(cosine).sub_(directions).div_(norm)
    (slope,) = torch.autograd.grad(updates, images, upstream)
    # A step into overflow must not poison the search: that pixel stays where it is.
    return slope.nan_to_num_(0.0, 0.0, 0.0)


def _add_variation_slope(slope: Tensor, images: Tensor, weight: float) -> None:
    """Add the derivative of weight * (mean |vertical| + mean |horizontal| difference)."""
    # The mean is over one problem's pixels, so that a problem does not depend on the others.
    each = weight / images[0].numel()
    framed = F.pad(images, (1, 1, 1, 1))  # black beyond the edges
    down = framed[..., 1:-1].diff(dim=-2).sign_()  # (..., rows + 1, columns)
    slope.add_(down[..., :-1, :] - down[..., 1:, :], alpha=each)
    across = framed[..., 1:-1, :].diff(dim=-1).sign_()  # (..., rows, columns + 1)
    slope.add_(across[..., :-1] - across[..., 1:], alpha=each)


def _distance(simulate: Simulate, directions: Tensor, images: Tensor) -> Tensor:
    updates = simulate(images).detach()
    norm = updates.norm(dim=1).clamp_min(SMALLEST_NORM)
    cosine: Tensor = (updates * directions).sum(dim=1) / norm
    return (1 - cosine).nan_to_num(2.0)


def _better(one: Inversion, other: Inversion) -> Inversion:
    """Row by row, the images whose update fits better."""
    nearer = other.distance < one.distance
    rows = nearer.view(-1, *(1,) * (one.images.ndim - 1))
    return Inversion(
        torch.where(rows, other.images, one.images),
        torch.where(nearer, other.distance, one.distance),
    )


def infer_labels(bias_gradients: Tensor) -> Tensor:
    """Labels of single records from the gradient of the last bias.

    The loss gradient at a logit is (probability - target): negative for the right class alone.

    Args:
        bias_gradients: (n, classes) of a softmax, or (n, 1) of a sigmoid.

    Returns:
        (n,) class indices; for a sigmoid 1 where the gradient is negative.
    """
    if bias_gradients.ndim != 2:
        raise InvalidScores(f"bias gradients have shape {tuple(bias_gradients.shape)}, not (n, c)")
    if bias_gradients.shape[1] == 1:
        return (bias_gradients[:, 0] < 0).long()
    return bias_gradients.argmin(dim=1)


def count_labelled(bias_gradient: float, records: int, probability: float) -> int:
    """Records of a logit's label in a batch from its mean bias gradient, rounded, 0 to records.

    mean(p - y) is the gradient, of a sigmoid and of each class of a softmax, so that those who have
    the label are records * (mean p - gradient).

    Args:
        bias_gradient: mean over the records.
        probability: what the network answers on average before the step, in [0, 1]; an attacker
            takes it from images of its own.
    """
    if records < 1 or not 0 <= probability <= 1 or not math.isfinite(bias_gradient):
        raise InvalidScores(
            f"cannot count among {records} records at probability {probability} "
            f"and gradient {bias_gradient}"
        )
    return min(records, max(0, round(records * (probability - bias_gradient))))
