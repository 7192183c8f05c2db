"""How much of two scans of one slice a fused picture keeps, without a reference.

Each is of the picture and its two sources. None knows what matters to a reader: a picture that
blends noise well scores well.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, sobel
from sklearn.metrics import mutual_info_score

Grey = NDArray[np.uint8]  # (size, size)
Floats = NDArray[np.float64]

# Xydeas & Petrovic 2000, section "Results": strength and orientation.
_STRENGTH, _ORIENTATION = (0.9994, -15.0, 0.5), (0.9879, -22.0, 0.8)


def mutual_information(fused: Grey, first: Grey, second: Grey) -> float:
    """Bits that the picture tells of one source plus those of the other, 256 grey values.

    Reference: Qu, Zhang & Yan 2002, Electronics Letters 38:313.
    """
    nats = sum(mutual_info_score(each.ravel(), fused.ravel()) for each in (first, second))
    return float(nats / np.log(2))


def similarity(fused: Grey, first: Grey, second: Grey) -> float:
    """Mean structural similarity to the sources, -1 to 1.

    Reference: Wang et al. 2004, IEEE TIP 13:600, Gaussian window of 11 pixels.
    """
    return (_ssim(fused, first) + _ssim(fused, second)) / 2


def edges_kept(fused: Grey, first: Grey, second: Grey) -> float:
    """Q^{AB/F}: how well the sources' edges are kept, 0 to .975, each by its own strength.

    Reference: Xydeas & Petrovic 2000, Electronics Letters 36:308, L = 1. Sources without any edge
    have none to keep: 0.
    """
    strength_f, angle_f = _edges(fused)
    kept = total = 0.0
    for source in (first, second):
        strength, angle = _edges(source)
        least, most = np.minimum(strength, strength_f), np.maximum(strength, strength_f)
        ratio = np.divide(least, most, out=np.zeros_like(most), where=most > 0)
        # Edges have no direction: angles that differ by pi are the same.
        alike = np.abs(np.abs(angle - angle_f) - np.pi / 2) / (np.pi / 2)
        kept += float((_sigmoid(ratio, _STRENGTH) * _sigmoid(alike, _ORIENTATION) * strength).sum())
        total += float(strength.sum())
    return kept / total if total else 0.0


def _ssim(a: Grey, b: Grey) -> float:
    x, y = a.astype(float), b.astype(float)
    mean_x, mean_y = _local(x), _local(y)
    var_x, var_y = _local(x * x) - mean_x**2, _local(y * y) - mean_y**2
    covariance = _local(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    values = luminance * (2 * covariance + c2) / (var_x + var_y + c2)
    return float(values[5:-5, 5:-5].mean())  # whole windows only


def _local(values: Floats) -> Floats:
    """Means under the window at each pixel."""
    return np.asarray(gaussian_filter(values, 1.5, radius=5))


def _edges(image: Grey) -> tuple[Floats, Floats]:
    """Strength and orientation (-pi/2 to pi/2) at each pixel, by Sobel's operator."""
    across, down = (sobel(image.astype(float), axis) for axis in (1, 0))
    angle = np.arctan(np.divide(down, across, out=np.full_like(down, np.inf), where=across != 0))
    return np.hypot(across, down), angle


def _sigmoid(value: Floats, of: tuple[float, float, float]) -> Floats:
    top, slope, middle = of
    return np.asarray(top / (1 + np.exp(slope * (value - middle))))
