"""Other explanations of the same answer, to hold contributions against: captum's.

Contributions say which places the head answered by. These two ask the whole network, down to the
pixels, so they need not agree: a place takes in more of the image than the square that is its own,
and both compare with black, which no head shows. So what is told is a rank correlation, no verdict.

    integrated gradients  Sundararajan, Taly & Yan 2017, from black images in 50 steps
    occlusion             Zeiler & Fergus 2014: a place's pixels are made black in all modalities

Both sum over the pixels that are nearest to each place, and over modalities.
"""

import torch
from scipy.stats import spearmanr
from torch import Tensor

from securefed.errors import ConfigurationError
from securefed.model.place_grid import PlaceGrid
from securefed.prediction.explanation import Explanation, Floats
from securefed.prediction.model import ReleasedModel

_STEPS = 50
_AT_ONCE = 4  # copies of the example that the network gets at a time


def agreement(model: ReleasedModel, shown: Explanation, grid: PlaceGrid) -> dict[str, float | None]:
    """Spearman's correlation of contributions with each method's, over the places of one slice.

    Returns:
        By method; None where one of both is the same everywhere.

    Raises:
        ConfigurationError: captum is not installed.
    """
    contributions = shown.contributions[shown.place.slice].ravel()
    found: dict[str, float | None] = {}
    for method, theirs in attributions(model, shown, grid).items():
        flat = theirs.ravel()
        varied = len(set(flat.tolist())) > 1 and len(set(contributions.tolist())) > 1
        found[method] = float(spearmanr(contributions, flat).statistic) if varied else None
    return found


def attributions(model: ReleasedModel, shown: Explanation, grid: PlaceGrid) -> dict[str, Floats]:
    """What each method gives the places (side, side) of the slice of `shown.place`.

    Raises:
        ConfigurationError: captum is not installed.
    """
    try:
        from captum.attr import FeatureAblation, IntegratedGradients
    except ImportError:
        raise ConfigurationError(
            "--check needs captum, which is not installed",
            hint="pip install 'securefed[explain]'",
        ) from None
    present, number = shown.group.present, shown.place.slice
    images = shown.group.images.float()

    def answer(images: Tensor) -> Tensor:
        logits: Tensor = model.network(images, present.expand(len(images), -1, -1))
        return logits[:, model.classes.index(shown.of_class)] if shown.of_class else logits

    size, side = images.shape[-1], grid.side
    nearest = torch.from_numpy(grid.nearest(size))
    mask = torch.zeros(images.shape[1:], dtype=torch.long)  # 0: what is never blacked out
    mask[:, number] = 1 + nearest[:, None] * side + nearest
    sloped = IntegratedGradients(answer).attribute(
        images, n_steps=_STEPS, internal_batch_size=_AT_ONCE
    )
    with torch.no_grad():
        lost = FeatureAblation(answer).attribute(
            images, feature_mask=mask[None], perturbations_per_eval=_AT_ONCE
        )
    occluded = lost[0, 0, number].double().numpy()  # the same at all pixels of a place
    places = torch.arange(side)
    first = torch.searchsorted(nearest, places).numpy()
    return {
        "integrated gradients": grid.sums(sloped[0, :, number].sum(0).double().numpy()),
        "occlusion": occluded[first[:, None], first],
    }
