"""How reconstructions are scored: published definitions, naive oracles, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.errors import InvalidScores, TooFewTargets
from attacks.inversion.quality import (
    LARGEST_PSNR_DB,
    Image,
    is_identified,
    mean_colour,
    mse,
    psnr,
    psnr_over_mean_colour,
    ssim,
)


def picture(seed: int, shape: tuple[int, ...] = (20, 24)) -> Image:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def naive_ssim(a: Image, b: Image) -> float:
    """Wang et al. 2004, equations 13 to 16, window by window."""
    axis = np.arange(11) - 5
    window = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for row in range(a.shape[0] - 10):
        for column in range(a.shape[1] - 10):
            x = a[row : row + 11, column : column + 11].astype(np.float64)
            y = b[row : row + 11, column : column + 11].astype(np.float64)
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            vxy = (window * (x - mx) * (y - my)).sum()
            values.append(
                (2 * mx * my + 1e-4)
                * (2 * vxy + 9e-4)
                / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
            )
    return float(np.mean(values))


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.3])
def test_ssim_is_that_of_the_paper_computed_window_by_window(noise: float) -> None:
    a = picture(0)
    b = np.clip(a + noise * (picture(1) - 0.5), 0, 1).astype(np.float32)
    assert ssim(a, b) == pytest.approx(naive_ssim(a, b), abs=1e-9)


def test_ssim_of_colour_is_the_mean_over_channels() -> None:
    a, b = picture(0, (3, 16, 16)), picture(1, (3, 16, 16))
    each = [ssim(x, y) for x, y in zip(a, b, strict=True)]
    assert ssim(a, b) == pytest.approx(np.mean(each))


@given(st.floats(0.01, 0.5))
@settings(max_examples=20, deadline=None)
def test_psnr_of_a_constant_error_is_known(error: float) -> None:
    black = np.zeros((4, 4), np.float32)
    assert psnr(black, black + np.float32(error)) == pytest.approx(
        -20 * math.log10(error), abs=1e-4
    )


def test_equal_images_have_the_largest_figures() -> None:
    a = picture(0)
    assert (mse(a, a), psnr(a, a)) == (0.0, LARGEST_PSNR_DB)
    assert ssim(a, a) == pytest.approx(1.0)


def test_the_mean_colour_image_knows_one_number_per_channel() -> None:
    a = picture(0, (3, 8, 8))
    flat = mean_colour(a)
    assert np.allclose(flat[:, 0, 0], a.mean(axis=(1, 2)))
    assert np.ptp(flat, axis=(1, 2)).max() == 0
    assert psnr_over_mean_colour(a, flat) == 0
    assert psnr_over_mean_colour(a, np.zeros_like(a)) < 0


def test_a_target_is_identified_only_if_strictly_nearer_than_every_decoy() -> None:
    decoys = np.linspace(1.0, 2.0, 50)
    assert is_identified(0.99, decoys)
    assert not is_identified(1.0, decoys)
    assert not is_identified(1.5, decoys)


def test_fewer_than_fifty_decoys_identify_nobody() -> None:
    with pytest.raises(TooFewTargets, match="49 decoys"):
        is_identified(0.0, np.ones(49))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_distances_must_be_finite(bad: float) -> None:
    with pytest.raises(InvalidScores, match="not finite"):
        is_identified(bad, np.ones(50))
    with pytest.raises(InvalidScores, match="not finite"):
        is_identified(0.5, np.append(np.ones(50), bad))


def test_images_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(InvalidScores, match="shapes"):
        mse(picture(0), picture(0, (24, 20)))
    with pytest.raises(InvalidScores, match="not finite"):
        psnr(picture(0), np.full((20, 24), np.nan, np.float32))
    with pytest.raises(InvalidScores, match="smaller than SSIM's window"):
        ssim(picture(0, (10, 12)), picture(1, (10, 12)))
