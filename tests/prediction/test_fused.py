"""Fused pictures and their metrics: on values that are known, and against other code."""

import numpy as np
import pytest

from securefed.model.place_grid import PlaceGrid
from securefed.prediction.fused import Fusions, attended, averaged, pyramid
from securefed.prediction.fusion_metrics import edges_kept, mutual_information, similarity

SIZE = 32
GRID = PlaceGrid(0.0, 8.0, 4)
RNG = np.random.default_rng(5)
NOISE, OTHER = (RNG.integers(0, 256, (SIZE, SIZE)).astype(np.uint8) for _ in range(2))
FLAT = np.full((SIZE, SIZE), 90, np.uint8)


def looking(down: int, right: int) -> np.ndarray:
    """All places look that far away, and those at the edge at the last there is."""
    attention = np.zeros((4, 4, 4, 4))
    for row in range(4):
        for column in range(4):
            to = (np.clip(row + down, 0, 3), np.clip(column + right, 0, 3))
            attention[row, column][to] = 1
    return attention


def test_who_looks_straight_sees_the_context_and_who_looks_aside_sees_it_moved() -> None:
    assert np.array_equal(attended(NOISE, looking(0, 0), GRID), NOISE)
    moved = attended(NOISE, looking(1, 0), GRID)
    assert np.array_equal(moved[:12], NOISE[8:20])
    half = attended(NOISE, (looking(0, 0) + looking(0, 1)) / 2, GRID).astype(float)
    expected = (NOISE[:, :20].astype(float) + NOISE[:, 8:28]) / 2
    assert np.abs(half[:, :20] - expected).max() <= 0.5


def test_what_both_show_alike_a_pyramid_leaves_as_it_is() -> None:
    assert np.abs(pyramid(NOISE, NOISE).astype(int) - NOISE).max() <= 1
    odd = NOISE[:31, :31]
    assert np.abs(pyramid(odd, odd).astype(int) - odd).max() <= 1


def test_of_details_a_pyramid_keeps_the_stronger() -> None:
    spot, edge = FLAT.copy(), FLAT.copy()
    spot[10, 10], edge[:, 24:] = 250, 30
    fused = pyramid(spot, edge).astype(int)
    mean = averaged(spot, edge).astype(int)
    assert fused[10, 10] - fused[10, 13] > 1.5 * (mean[10, 10] - mean[10, 13])
    assert fused[20, 23] - fused[20, 24] > 1.5 * (mean[20, 23] - mean[20, 24])


def test_mutual_information_of_a_picture_with_itself_is_its_entropy() -> None:
    halves = np.where(np.arange(SIZE) < SIZE / 2, 10, 200).astype(np.uint8)[None].repeat(SIZE, 0)
    assert mutual_information(halves, halves, FLAT) == pytest.approx(1.0)
    assert mutual_information(halves, halves, halves) == pytest.approx(2.0)
    assert mutual_information(FLAT, halves, NOISE) == pytest.approx(0.0, abs=1e-12)


def test_similarity_is_one_for_the_same_and_by_hand_for_flat_pictures() -> None:
    assert similarity(NOISE, NOISE, NOISE) == pytest.approx(1.0)
    dark = np.full_like(FLAT, 60)
    c1 = (0.01 * 255) ** 2
    by_hand = (2 * 90 * 60 + c1) / (90**2 + 60**2 + c1)
    assert similarity(FLAT, dark, dark) == pytest.approx(by_hand)


def test_similarity_is_that_of_other_code() -> None:
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai", reason="needs the extra monai")
    metric = monai.metrics.SSIMMetric(spatial_dims=2, data_range=255.0)
    one, other = (torch.from_numpy(each.astype(np.float32))[None, None] for each in (NOISE, OTHER))
    assert similarity(NOISE, OTHER, OTHER) == pytest.approx(float(metric(one, other)), abs=1e-4)


def test_edges_kept_has_the_largest_value_of_its_paper_and_its_smallest() -> None:
    """Equal edges: .9994 / (1 + e^-7.5) times .9879 / (1 + e^-4.4)."""
    most = 0.9994 / (1 + np.exp(-7.5)) * 0.9879 / (1 + np.exp(-4.4))
    assert edges_kept(NOISE, NOISE, NOISE) == pytest.approx(most)
    assert edges_kept(NOISE, NOISE, FLAT) == pytest.approx(most)  # flat: no edge to keep
    assert edges_kept(FLAT, NOISE, OTHER) < 0.001
    assert edges_kept(FLAT, FLAT, FLAT) == 0


def test_an_edge_across_is_not_kept_by_one_along() -> None:
    along = np.where(np.arange(SIZE) < 16, 10, 200).astype(np.uint8)[:, None].repeat(SIZE, 1)
    assert edges_kept(along.T, along, along) < 0.1 < edges_kept(along, along, along)
    assert edges_kept(255 - along, along, along) == edges_kept(along, along, along)


def test_both_ways_are_measured_against_the_same_sources() -> None:
    attention, classical = Fusions(NOISE, OTHER, FLAT).ways
    assert (attention.name, classical.name) == ("attention", "Laplacian pyramid")
    assert attention.edges_kept == edges_kept(averaged(NOISE, FLAT), NOISE, OTHER)
    assert classical.similarity == similarity(pyramid(NOISE, OTHER), NOISE, OTHER)
