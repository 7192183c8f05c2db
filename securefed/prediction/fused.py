"""One slice of two modalities in one picture: by the model's attention, and by a classical rule.

By attention, each place of the query shows the context as the network attends to it: the pixels
around every place of the context, each by its share of the attention. That is what the values are
made of, before they are features. A network that needs only a few features of the context has no
reason to keep its picture, so a classical fusion may well look better; the metrics say which keeps
more of both pictures, not which serves the diagnosis.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter

from securefed.model.place_grid import PlaceGrid
from securefed.prediction.explanation import Explanation
from securefed.prediction.fusion_metrics import (
    Floats,
    Grey,
    edges_kept,
    mutual_information,
    similarity,
)

LEVELS = 4  # of the pyramid, the coarsest included


def attended(context: Grey, attention: Floats, grid: PlaceGrid) -> Grey:
    """The context as each place of the query sees it, (size, size).

    Args:
        context: (size, size).
        attention: (side, side, side, side) of a place of the query to each of the context's.
    """
    size, side = len(context), grid.side
    nearest, pixel, place = grid.nearest(size), np.arange(size), np.arange(side)
    seen = np.zeros((size, size))
    for down in range(1 - side, side):
        for right in range(1 - side, side):
            # Places that have another so far from them, and its share of their attention.
            row, column = (
                place[(place + shift >= 0) & (place + shift < side)] for shift in (down, right)
            )
            share = np.zeros((side, side))
            share[row[:, None], column] = attention[
                row[:, None], column, row[:, None] + down, column + right
            ]
            at = (np.clip(pixel + round(shift * grid.step), 0, size - 1) for shift in (down, right))
            seen += share[nearest[:, None], nearest] * context[np.ix_(*at)]
    return np.asarray(np.rint(seen), np.uint8)


def averaged(first: Grey, second: Grey) -> Grey:
    """The mean of both."""
    return np.asarray(np.rint((first.astype(float) + second) / 2), np.uint8)


def pyramid(first: Grey, second: Grey) -> Grey:
    """Both fused by Laplacian pyramids: of details the stronger, of what is left the mean.

    Reference: Burt & Kolczynski 1993, ICCV, with the selection of single coefficients; the pyramid
    of Burt & Adelson 1983.
    """
    one, other = (_laplacian(each.astype(float)) for each in (first, second))
    pairs = zip(one[:-1], other[:-1], strict=True)
    details = [np.where(np.abs(a) >= np.abs(b), a, b) for a, b in pairs]
    image = (one[-1] + other[-1]) / 2
    for detail in reversed(details):
        image = _enlarged(image, detail.shape) + detail
    return np.asarray(np.rint(image).clip(0, 255), np.uint8)


def _laplacian(image: Floats) -> list[Floats]:
    """Details of each level, the finest first, and the coarse image that is left."""
    levels = []
    for _ in range(LEVELS - 1):
        coarse = gaussian_filter(image, 1.0)[::2, ::2]
        levels.append(image - _enlarged(coarse, image.shape))
        image = coarse
    return [*levels, image]


def _enlarged(image: Floats, shape: tuple[int, ...]) -> Floats:
    """To the size of the finer level, every pixel of which in two is one of the coarser."""
    spread, there = np.zeros(shape), np.zeros(shape)
    spread[::2, ::2], there[::2, ::2] = image, 1
    return np.asarray(gaussian_filter(spread, 1.0) / gaussian_filter(there, 1.0))


@dataclass(frozen=True, eq=False)
class Way:
    """A fused picture, and what it keeps of both (fusion_metrics)."""

    name: str
    image: Grey = field(repr=False)
    mutual_information: float
    similarity: float
    edges_kept: float

    @classmethod
    def of(cls, name: str, image: Grey, *sources: Grey) -> "Way":
        metrics = (mutual_information, similarity, edges_kept)
        return cls(name, image, *(metric(image, *sources) for metric in metrics))


@dataclass(frozen=True, eq=False)
class Fusions:
    """The query's slice and a context's, (size, size) each, and both in one picture in two ways.

    Attributes:
        seen: the context as the query attends to it.
    """

    query: Grey = field(repr=False)
    context: Grey = field(repr=False)
    seen: Grey = field(repr=False)

    @property
    def ways(self) -> tuple[Way, Way]:
        """By attention, the mean of query and attended context; and by pyramids."""
        sources = self.query, self.context
        return (
            Way.of("attention", averaged(self.query, self.seen), *sources),
            Way.of("Laplacian pyramid", pyramid(*sources), *sources),
        )


def fusions(shown: Explanation, grid: PlaceGrid) -> dict[str, Fusions]:
    """Of the slice of `shown.place`, by context; none without the query."""
    number, (query, *_) = shown.place.slice, shown.modalities
    if not shown.present_of(query)[number]:
        return {}
    found = {}
    for name, attention in shown.looked.items():
        context = shown.images_of(name)[number]
        seen = attended(context, attention, grid)
        found[name] = Fusions(shown.images_of(query)[number], context, seen)
    return found
