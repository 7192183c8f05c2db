"""Scenes: the same again, places where things are, and nothing of the phantoms."""

import ast
from pathlib import Path

import numpy as np

from securefed.data import scenes


def test_a_scene_is_the_same_however_many_are_drawn_and_other_seeds_give_others() -> None:
    few, many, other = (scenes.draw(n, 32, 4, seed) for n, seed in ((2, 5), (3, 5), (2, 6)))
    assert np.array_equal(few.images, many.images[:2])
    assert np.array_equal(few.kinds, many.kinds[:2])
    assert np.array_equal(few.greys, many.greys[:2])
    assert not np.array_equal(few.images, other.images)


def test_the_grey_values_of_a_place_are_those_around_its_pixel() -> None:
    drawn = scenes.draw(3, 64, 8, 1)
    assert drawn.images.shape == (3, 64, 64)
    assert drawn.kinds.shape == (3, 64, 2)
    window = drawn.images[1, 16 - 4 : 16 + 4, 24 - 4 : 24 + 4] / 255  # place (2, 3)
    mean, deviation, _ = drawn.greys[1, 2 * 8 + 3]
    assert np.isclose(mean, window.mean(), atol=1e-5)
    assert np.isclose(deviation, window.std(), atol=1e-4)


def test_both_kinds_are_at_some_places_and_not_at_most() -> None:
    share = scenes.draw(60, 32, 4, 2).kinds.mean((0, 1))
    assert (share > 0.02).all()
    assert (share < 0.3).all()


def test_scenes_know_nothing_of_phantoms() -> None:
    tree = ast.parse(Path(scenes.__file__).read_text())
    named = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in named if name and name.startswith("securefed")]
