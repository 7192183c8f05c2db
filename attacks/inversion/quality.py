"""How good a reconstruction is: error, structure, and whether it tells who it was.

MSE and PSNR per pixel; SSIM (Wang et al. 2004, section III-B, 11x11 Gaussian window of 1.5 pixels)
for structure. None of them says that a person was found: an average head has a fair PSNR against
any head. So there are two yardsticks of nothing: the mean-colour image, which knows one number per
channel, and identification, which asks whether the reconstruction is nearer to its own patient
than to every one of at least 50 others who took no part (chance: at most 1 in 51).
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from attacks.errors import InvalidScores, TooFewTargets

Image = NDArray[np.float32]  # (rows, columns) or (channels, rows, columns), in [0, 1]
LEAST_DECOYS = 50
LARGEST_PSNR_DB = 100.0  # what equal images are given: infinity is no figure for a report
WINDOW_RADIUS, WINDOW_SIGMA = 5, 1.5
C1, C2 = 0.01**2, 0.03**2


def mse(one: Image, other: Image) -> float:
    """Mean squared difference of two images in [0, 1]."""
    _check(one, other)
    return float(np.mean((one.astype(np.float64) - other) ** 2))


def psnr(one: Image, other: Image) -> float:
    """Peak signal-to-noise ratio in dB at peak 1, at most LARGEST_PSNR_DB."""
    error = mse(one, other)
    return min(LARGEST_PSNR_DB, -10 * math.log10(error)) if error else LARGEST_PSNR_DB


def mean_colour(image: Image) -> Image:
    """The image with every pixel at its channel's mean: what one number per channel gives."""
    return np.broadcast_to(image.mean(axis=(-2, -1), keepdims=True), image.shape).astype(np.float32)


def psnr_over_mean_colour(true: Image, reconstruction: Image) -> float:
    """PSNR of the reconstruction less that of the true image's mean colour, dB."""
    return psnr(true, reconstruction) - psnr(true, mean_colour(true))


def ssim(one: Image, other: Image) -> float:
    """Structural similarity, -1 to 1; channels are averaged, the border is left out.

    Raises:
        InvalidScores: shapes differ, or an image smaller than the 11x11 window.
    """
    _check(one, other)
    if min(one.shape[-2:]) < 2 * WINDOW_RADIUS + 1:
        raise InvalidScores(
            f"an image of {one.shape[-2]}x{one.shape[-1]} is smaller than SSIM's window",
            hint=f"at least {2 * WINDOW_RADIUS + 1} pixels a side",
        )
    pairs = zip(_channels(one), _channels(other), strict=True)
    return float(np.mean([_ssim_of_channel(a, b) for a, b in pairs]))


def _channels(image: Image) -> NDArray[np.float64]:
    return image.astype(np.float64).reshape(-1, *image.shape[-2:])


def _ssim_of_channel(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a, variance_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    likeness = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
    size = (mean_a**2 + mean_b**2 + C1) * (variance_a + variance_b + C2)
    inner = slice(WINDOW_RADIUS, -WINDOW_RADIUS)
    return float(np.mean((likeness / size)[inner, inner]))


def _blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
    blurred: NDArray[np.float64] = ndimage.gaussian_filter(
        image, WINDOW_SIGMA, radius=WINDOW_RADIUS
    )
    return blurred


def _check(one: Image, other: Image) -> None:
    if one.shape != other.shape or one.ndim not in (2, 3) or not one.size:
        raise InvalidScores(
            f"cannot compare images of shapes {one.shape} and {other.shape}",
            hint="(rows, columns) or (channels, rows, columns), the same for both",
        )
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise InvalidScores("an image holds values that are not finite")


def is_identified(target: float, decoys: NDArray[np.floating]) -> bool:
    """Whether the target is strictly nearer than every decoy; a tie is no identification.

    Args:
        target: distance from the reconstruction to the patient it is tried on.
        decoys: distances to patients who took no part, (n,).

    Raises:
        TooFewTargets: fewer than LEAST_DECOYS.
        InvalidScores: a distance that is not finite.
    """
    if decoys.ndim != 1 or len(decoys) < LEAST_DECOYS:
        raise TooFewTargets(
            f"{decoys.size} decoys; identification needs {LEAST_DECOYS}",
            hint="hold out more patients",
        )
    if not (math.isfinite(target) and np.isfinite(decoys).all()):
        raise InvalidScores("a distance is not finite")
    return bool(target < decoys.min())
