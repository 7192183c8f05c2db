"""Scenes: pictures of nothing in particular, for encoders that are to have seen no head.

Smooth gradients and textures of several scales; ellipses, polygons and strokes over them; mostly
cut out by a smooth outline with a border of any grey, on black ground; in what is left spots and
patches, lighter or darker than what is around them; then a gamma, a bias, blur and noise. What is
told of each place is what any picture has: is there a spot or a patch, how steep is it, how light
is it. No anatomy, modality or pair is in here, so that encoders trained on scenes start from
another family than the phantoms (docs/encoders.md). The idea is that of formula-driven pretraining
(Kataoka et al. 2020).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

KINDS = ("light_spot", "light_patch", "dark_spot", "dark_patch")  # is one at a place: yes or no
GREYS = ("steepness", "mean")  # of a place: square root of the mean gradient, grey value
RADII = ((0.05, 0.13), (0.13, 0.26))  # of spots and of patches, in half edges
MOST_BLOBS = 2  # tried of a scene; rare, as findings are
FAINTEST, STRONGEST = 0.08, 0.35  # difference to what is around, in grey values of 0 to 1
COVERED = 0.12  # share of a place's window from which on a spot or a patch is there

Picture = NDArray[np.float64]
Where = NDArray[np.bool_]


@dataclass(frozen=True)
class Scenes:
    """Pictures with what is told of their places.

    Attributes:
        images: (scenes, size, size).
        kinds: (scenes, side * side, len(KINDS)), row by row.
        greys: (scenes, side * side, len(GREYS)).
    """

    images: NDArray[np.uint8]
    kinds: NDArray[np.bool_]
    greys: NDArray[np.float32]


def draw(
    count: int,
    size: int,
    side: int,
    seed: int,
    progress: Callable[[float], None] = lambda share: None,
) -> Scenes:
    """Draw scenes; scene n of a seed is the same however many are drawn.

    Args:
        size: edge in pixels.
        side: places along an edge.
        progress: told the drawn share, 0 to 1.
    """
    parts = []
    for number in range(count):
        parts.append(_scene(np.random.default_rng((seed, number)), size, side))
        progress((number + 1) / count)
    images, kinds, greys = (np.stack(part) for part in zip(*parts, strict=True))
    return Scenes(images, kinds, greys)


def _scene(
    rng: np.random.Generator, size: int, side: int
) -> tuple[NDArray[np.uint8], Where, NDArray[np.float32]]:
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")  # both in half edges, -1 to 1
    picture, inside = _cut_out(rng, _ground(rng, x, y), x, y)
    there = np.zeros((len(KINDS), size, size), np.bool_)
    for _ in range(rng.integers(MOST_BLOBS + 1)):
        large, dark = rng.integers(2), rng.integers(2)
        blob = _ellipse(rng, x, y, *RADII[large])
        if not (blob & ~inside).any():
            picture = picture + _raised(rng, blob) * (-1 if dark else 1)
            there[2 * dark + large] |= blob
    clean = _shown(rng, picture, x, y)
    kinds = np.stack([_windows(mask.astype(float), side) >= COVERED for mask in there], axis=-1)
    steep = _windows(ndimage.gaussian_gradient_magnitude(clean, 1.0), side).clip(0)
    greys = np.stack([np.sqrt(steep), _windows(clean, side)], axis=-1)
    image = clean + rng.normal(scale=rng.uniform(0.01, 0.06), size=clean.shape)
    return (
        (image.clip(0, 1) * 255).round().astype(np.uint8),
        kinds.reshape(-1, len(KINDS)),
        greys.reshape(-1, len(GREYS)).astype(np.float32),
    )


def _windows(values: Picture, side: int) -> Picture:
    """Means over the pixels of each place, (side, side)."""
    centres = ((np.arange(side) + 0.5) * len(values) / side).astype(int)
    means = ndimage.uniform_filter(values, len(values) // side)
    return np.asarray(means[np.ix_(centres, centres)])


def _either(rng: np.random.Generator, most: float) -> float:
    return float(rng.uniform(-most, most))


def _ground(rng: np.random.Generator, x: Picture, y: Picture) -> Picture:
    """A gradient with textures, and large shapes over it."""
    picture = rng.uniform(0.25, 0.7) + _either(rng, 0.15) * x + _either(rng, 0.15) * y
    for scale in (1.0, 3.0, 9.0):  # standard deviations of the blur, in 64ths of an edge
        texture = ndimage.gaussian_filter(rng.normal(size=x.shape), scale * len(x) / 64)
        picture = picture + rng.uniform(0, 0.05) * texture / texture.std()
    for _ in range(rng.poisson(3)):
        shape = (_ellipse, _polygon, _stroke)[rng.integers(3)](rng, x, y)
        picture = np.where(shape, picture * rng.uniform(0.5, 1) + _either(rng, 0.3), picture)
    return np.asarray(picture)


def _cut_out(
    rng: np.random.Generator, picture: Picture, x: Picture, y: Picture
) -> tuple[Picture, Where]:
    """Three of ten stay whole; of the others what is inside an outline, and where that is."""
    if rng.random() < 0.3:
        return picture, np.ones(x.shape, np.bool_)
    u, v = _turned(rng, x, y, 0.2)
    radius, power, flat = rng.uniform(0.5, 1.0), rng.uniform(2, 6), rng.uniform(0.7, 1.0)
    far = ((np.abs(u) / radius) ** power + (np.abs(v) / radius / flat) ** power) ** (1 / power)
    border = rng.uniform(0.04, 0.2) if rng.random() < 0.7 else 0.0
    picture = np.where(far > 1 - border, rng.uniform(0, 1.2), picture)
    return np.where(far > 1, rng.uniform(0, 0.1), picture), far < 1 - border


def _turned(
    rng: np.random.Generator, x: Picture, y: Picture, furthest: float = 0.9
) -> tuple[Picture, Picture]:
    """Coordinates around some place, at some angle."""
    angle = rng.uniform(0, np.pi)
    x, y = x - _either(rng, furthest), y - _either(rng, furthest)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _ellipse(
    rng: np.random.Generator, x: Picture, y: Picture, least: float = 0.15, most: float = 0.8
) -> Where:
    u, v = _turned(rng, x, y)
    radius = rng.uniform(least, most)
    return np.asarray(np.hypot(u, v / rng.uniform(0.6, 1.0)) < radius)


def _polygon(rng: np.random.Generator, x: Picture, y: Picture) -> Where:
    """Where some half planes around one place meet."""
    u, v = _turned(rng, x, y)
    corners = rng.integers(3, 7)
    angles = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners
    sides = [u * np.cos(a) + v * np.sin(a) < rng.uniform(0.1, 0.6) for a in angles]
    return np.asarray(np.all(sides, axis=0))


def _stroke(rng: np.random.Generator, x: Picture, y: Picture) -> Where:
    u, v = _turned(rng, x, y)
    return np.asarray(
        (np.abs(v - _either(rng, 0.5) * u**2) < rng.uniform(0.02, 0.08))
        & (np.abs(u) < rng.uniform(0.2, 1.5))
    )


def _raised(rng: np.random.Generator, blob: Where) -> Picture:
    """A blob with a soft edge; one of five has a rim."""
    pixel = len(blob) / 64
    soft = ndimage.gaussian_filter(blob.astype(float), rng.uniform(0, 1.5) * pixel)
    if rng.random() < 0.2:
        rim = blob & ~ndimage.binary_erosion(blob, iterations=max(1, round(2 * pixel)))
        soft = (soft + ndimage.gaussian_filter(rim.astype(float), 0.5 * pixel)) / 2
    return np.asarray(rng.uniform(FAINTEST, STRONGEST) * soft)


def _shown(rng: np.random.Generator, picture: Picture, x: Picture, y: Picture) -> Picture:
    """As some device would show it but for its noise: a gamma, a bias over the field, blur."""
    grey = picture.clip(0, 1) ** np.exp(_either(rng, 0.3))
    grey = grey * (1 + _either(rng, 0.15) * x + _either(rng, 0.15) * y)
    blurred = ndimage.gaussian_filter(grey, rng.uniform(0, 0.8) * len(picture) / 64)
    return np.asarray(blurred.clip(0, 1))
