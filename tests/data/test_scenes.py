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


def test_the_grey_value_of_a_place_is_that_of_its_pixels() -> None:
    drawn = scenes.draw(3, 64, 8, 1)
    assert drawn.images.shape == (3, 64, 64)
    assert drawn.kinds.shape == (3, 64, 4)
    means = drawn.images.reshape(3, 8, 8, 8, 8).mean((2, 4)).reshape(3, 64) / 255
    assert np.abs(drawn.greys[:, :, 1] - means).max() < 0.03  # but for the noise


def test_places_need_not_divide_a_picture() -> None:
    drawn = scenes.draw(2, 64, 3, 1)
    assert drawn.kinds.shape == (2, 9, 4)


def test_spots_and_patches_are_rare_and_what_they_are_called() -> None:
    drawn = scenes.draw(300, 32, 4, 2)
    share = drawn.kinds.mean((0, 1))
    assert (share > 0.001).all()
    assert (share < 0.05).all()
    light, dark = drawn.kinds[..., :2].any(-1), drawn.kinds[..., 2:].any(-1)
    around = drawn.greys[..., 1].mean(1, keepdims=True)
    assert (drawn.greys[..., 1] - around)[light].mean() > (drawn.greys[..., 1] - around)[
        dark
    ].mean()


def test_scenes_know_nothing_of_phantoms() -> None:
    tree = ast.parse(Path(scenes.__file__).read_text())
    named = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in named if name and name.startswith("securefed")]
