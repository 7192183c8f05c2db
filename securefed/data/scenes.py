"""Scenes: pictures of nothing in particular, for encoders that are to have seen no head.

Smooth gradients and textures of several scales; ellipses, polygons and strokes over them; blobs
and rings, lighter or darker than what is around them; then a gain, a gamma, a bias, blur and noise.
What is told of each place is what any picture has: is there a blob, is there a ring, how light is
it, how much does it vary, how steep is it. No anatomy, lesion, modality or pair is in here, so that
encoders trained on scenes start from another family than the phantoms (docs/encoders.md). The idea
is that of formula-driven pretraining (Kataoka et al. 2020).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

KINDS = ("blob", "ring")  # is there one at a place: yes or no
GREYS = ("mean", "deviation", "gradient")  # grey values of a place, in [0, 1]
COVERED = 0.1  # share of a place's window from which on a blob or a ring is there

Picture = NDArray[np.float64]


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
        side: places along an edge; has to divide `size`.
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
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.float32]]:
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")  # both in half edges, -1 to 1
    picture = _background(rng, x, y)
    for _ in range(rng.poisson(4)):
        shape = (_ellipse, _polygon, _stroke)[rng.integers(3)](rng, x, y)
        picture = np.where(shape, picture * rng.uniform(0, 1) + _contrast(rng, 0.6), picture)
    blobs, rings = np.zeros(x.shape), np.zeros(x.shape)
    for _ in range(rng.integers(4)):
        picture, blobs = _add(rng, picture, blobs, _ellipse(rng, x, y, 0.05, 0.18))
    for _ in range(rng.integers(4)):
        picture, rings = _add(rng, picture, rings, _ring(rng, x, y))
    image = _photograph(rng, picture, x, y)
    places = size // side
    kinds = np.stack([_windows(mask, places) >= COVERED for mask in (blobs, rings)], axis=-1)
    grey = image / 255.0
    mean = _windows(grey, places)
    variance = _windows(grey**2, places) - mean**2
    steep = ndimage.gaussian_gradient_magnitude(grey, 1.0)
    greys = np.stack([mean, np.sqrt(variance.clip(0)), _windows(steep, places)], axis=-1)
    return image, kinds.reshape(-1, len(KINDS)), greys.reshape(-1, len(GREYS)).astype(np.float32)


def _windows(values: Picture, places: int) -> Picture:
    """Means around places: place i of a strided convolution sees most of pixel i * `places`."""
    return np.asarray(ndimage.uniform_filter(values, places, mode="nearest")[::places, ::places])


def _contrast(rng: np.random.Generator, most: float, least: float = 0.0) -> float:
    return float(rng.choice((-1, 1)) * rng.uniform(least, most))


def _background(rng: np.random.Generator, x: Picture, y: Picture) -> Picture:
    picture = rng.uniform(0.2, 0.8) + _contrast(rng, 0.3) * x + _contrast(rng, 0.3) * y
    for scale in (1.0, 3.0, 9.0):  # standard deviations of the blur, in 64ths of an edge
        texture = ndimage.gaussian_filter(rng.normal(size=x.shape), scale * len(x) / 64)
        picture = picture + rng.uniform(0, 0.12) * texture / texture.std()
    return np.asarray(picture)


def _turned(rng: np.random.Generator, x: Picture, y: Picture) -> tuple[Picture, Picture]:
    """Coordinates around some place, at some angle."""
    angle = rng.uniform(0, np.pi)
    x, y = x - rng.uniform(-0.9, 0.9), y - rng.uniform(-0.9, 0.9)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _ellipse(
    rng: np.random.Generator, x: Picture, y: Picture, least: float = 0.15, most: float = 0.8
) -> NDArray[np.bool_]:
    u, v = _turned(rng, x, y)
    radius = rng.uniform(least, most)
    return np.asarray(np.hypot(u, v / rng.uniform(0.6, 1.0)) < radius)


def _polygon(rng: np.random.Generator, x: Picture, y: Picture) -> NDArray[np.bool_]:
    """Where some half planes around one place meet."""
    u, v = _turned(rng, x, y)
    corners = rng.integers(3, 7)
    angles = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners
    sides = [u * np.cos(a) + v * np.sin(a) < rng.uniform(0.1, 0.6) for a in angles]
    return np.asarray(np.all(sides, axis=0))


def _stroke(rng: np.random.Generator, x: Picture, y: Picture) -> NDArray[np.bool_]:
    u, v = _turned(rng, x, y)
    return np.asarray(
        (np.abs(v - _contrast(rng, 0.5) * u**2) < rng.uniform(0.02, 0.08))
        & (np.abs(u) < rng.uniform(0.2, 1.5))
    )


def _ring(rng: np.random.Generator, x: Picture, y: Picture) -> NDArray[np.bool_]:
    u, v = _turned(rng, x, y)
    far, radius = np.hypot(u, v / rng.uniform(0.7, 1.0)), rng.uniform(0.12, 0.3)
    return np.asarray((far < radius) & (far > radius * rng.uniform(0.5, 0.8)))


def _add(
    rng: np.random.Generator, picture: Picture, there: Picture, shape: NDArray[np.bool_]
) -> tuple[Picture, Picture]:
    """A shape on a picture, with a soft edge, and on the mask of its kind."""
    soft = ndimage.gaussian_filter(shape.astype(float), rng.uniform(0, 1.5) * len(picture) / 64)
    return picture + _contrast(rng, 0.5, 0.08) * soft, np.maximum(there, shape)


def _photograph(
    rng: np.random.Generator, picture: Picture, x: Picture, y: Picture
) -> NDArray[np.uint8]:
    """As some device would show it: gain, gamma, a bias over the field, blur and noise."""
    grey = 0.5 + rng.uniform(0.5, 1.3) * (picture - picture.mean()) + _contrast(rng, 0.25)
    grey = grey.clip(0, 1) ** np.exp(_contrast(rng, 0.4))
    grey = grey * (1 + _contrast(rng, 0.25) * x + _contrast(rng, 0.25) * y)
    grey = ndimage.gaussian_filter(grey, rng.uniform(0, 1.0) * len(picture) / 64)
    grey = grey + rng.normal(scale=rng.uniform(0, 0.06), size=grey.shape)
    return np.asarray((grey.clip(0, 1) * 255).round(), np.uint8)
