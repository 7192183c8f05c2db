"""Pictures of an explanation: what places add, over every slice, and where one place looked.

Colour lies over the scans as thickly as there is something to show, so that anatomy stays visible.
Places are painted as they are, without smoothing: a map that looks as fine as the scan says more
than the network knows.
"""

from collections.abc import Mapping
from io import BytesIO

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from securefed.data.contact_sheet import evenly_spaced
from securefed.model.place_grid import PlaceGrid
from securefed.prediction.explanation import Explanation, Floats
from securefed.prediction.fused import Fusions

_THICKEST = 0.65  # share of colour over the scan
_SIGNED, _SHARES, _WARM = "RdBu_r", "viridis", "hot"
_INCHES = 1.5  # of a picture in the sheet
_MARK = "#ffd21f"


def slices_picture(shown: Explanation, grid: PlaceGrid) -> bytes:
    """PNG: a row for each modality, and one for what places add; columns are slices."""
    columns = _columns(shown)
    names = [*shown.modalities, "adds to the logit"]
    figure = Figure(
        figsize=(_INCHES * len(columns) + 1.6, _INCHES * len(names) + 0.3), layout="constrained"
    )
    axes = figure.subplots(len(names), len(columns), squeeze=False)
    limit = _limit(shown)
    for row, name in enumerate(names):
        for column, number in enumerate(columns):
            each: Axes = axes[row][column]
            base = _base(shown, number) if row == len(names) - 1 else _shown(shown, name, number)
            _scan(each, base)
            if row == len(names) - 1:
                added = grid.over_pixels(shown.contributions[number], len(base))
                _colour(each, added, limit, -limit, _SIGNED)
            if row == 0:
                each.set_title(f"{shown.numbers[number] + 1}", fontsize=9)
            if column == 0:
                each.set_ylabel(name.upper() if row < len(names) - 1 else name, fontsize=9)
            if number == shown.place.slice:
                for side in each.spines.values():
                    side.set(visible=True, color=_MARK, linewidth=2)
    scale = ScalarMappable(Normalize(-limit, limit), _SIGNED)
    figure.colorbar(scale, ax=axes[-1, :].tolist(), shrink=0.9, aspect=12)
    return _png(figure)


def place_picture(shown: Explanation, grid: PlaceGrid) -> bytes:
    """PNG: the slice of the place, what its places add, and its attention to each context."""
    number = shown.place.slice
    figure = Figure(figsize=(3.3 * (1 + len(shown.attention)) + 0.4, 3.4), layout="constrained")
    axes = figure.subplots(1, 1 + len(shown.attention), squeeze=False)[0]
    base, limit = _base(shown, number), _limit(shown)
    _scan(axes[0], base)
    added = grid.over_pixels(shown.contributions[number], len(base))
    _colour(axes[0], added, limit, -limit, _SIGNED)
    scale = ScalarMappable(Normalize(-limit, limit), _SIGNED)
    figure.colorbar(scale, ax=axes[0], shrink=0.8)
    axes[0].set_title(f"slice {shown.numbers[number] + 1}: adds to the logit", fontsize=10)
    for each, (name, attention) in zip(axes[1:], shown.attention.items(), strict=True):
        _scan(each, _shown(shown, name, number))
        most = float(attention.max())
        _colour(each, grid.over_pixels(attention, len(base)), most, 0.0, _SHARES)
        figure.colorbar(ScalarMappable(Normalize(0, most), _SHARES), ax=each, shrink=0.8)
        each.set_title(f"attention to {name.upper()}", fontsize=10)
    for each in axes:
        at = grid.centre(shown.place.column), grid.centre(shown.place.row)
        each.plot(*at, "o", mfc="none", mec=_MARK, ms=14, mew=2, clip_on=False)
    return _png(figure)


def fused_picture(query: str, pairs: Mapping[str, Fusions]) -> bytes:
    """PNG: a row for each context: both slices, and three ways to see them in one."""
    figure = Figure(figsize=(2.5 * 5, 2.8 * len(pairs)), layout="constrained")
    axes = figure.subplots(len(pairs), 5, squeeze=False)
    for row, (name, pair) in zip(axes, pairs.items(), strict=True):
        by_attention, by_pyramid = pair.ways
        one, other = query.upper(), name.upper()
        titles = (one, other, f"{one}, attended {other}", "their mean", by_pyramid.name)
        images = (pair.query, pair.context, pair.query, by_attention.image, by_pyramid.image)
        for each, title, image in zip(row, titles, images, strict=True):
            _scan(each, image)
            each.set_title(title, fontsize=10)
        _colour(row[2], pair.seen.astype(float), 255.0, 0.0, _WARM)
    return _png(figure)


def _columns(shown: Explanation) -> list[int]:
    """Slices of the sheet: evenly spaced, the place's in the place of its nearest."""
    columns = evenly_spaced(len(shown.numbers))
    columns[np.abs(columns - shown.place.slice).argmin()] = shown.place.slice
    return list(map(int, columns))


def _limit(shown: Explanation) -> float:
    """End of the scale: the largest contribution, for or against, of the example."""
    return float(np.abs(shown.contributions).max()) or 1.0


def _shown(shown: Explanation, name: str, number: int) -> NDArray[np.uint8]:
    return np.asarray(shown.images_of(name)[number])


def _base(shown: Explanation, number: int) -> NDArray[np.uint8]:
    """What contributions lie over: the query, or the first modality that the slice has."""
    there = (name for name in shown.modalities if shown.present_of(name)[number])
    return _shown(shown, next(there), number)


def _scan(axes: Axes, image: NDArray[np.uint8]) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)


def _colour(axes: Axes, values: Floats, most: float, least: float, name: str) -> None:
    """Values in colour, the larger the thicker."""
    table: Colormap = colormaps[name]
    painted = table(Normalize(least, most)(values))
    painted[..., 3] = _THICKEST * np.abs(values) / most
    axes.imshow(painted, interpolation="nearest")


def _png(figure: Figure) -> bytes:
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=110, metadata={"Software": None})
    return drawn.getvalue()
