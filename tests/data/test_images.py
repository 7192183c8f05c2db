"""Pictures from outside are read by content, fitted to size, or refused by name."""

import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from securefed.data.images import fit_square, read_image, write_png
from securefed.errors import DataError


def gradient(rows: int, columns: int) -> np.ndarray:
    return np.add.outer(np.arange(rows) * 3, np.arange(columns)).astype(np.uint8)


def test_a_written_image_comes_back_to_the_byte(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", gradient(32, 32))
    assert np.array_equal(read_image(tmp_path / "a.png", 32), gradient(32, 32))


def test_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    write_png(tmp_path / "slice.jpg", gradient(16, 16))
    assert np.array_equal(read_image(tmp_path / "slice.jpg", 16), gradient(16, 16))


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    stripes = np.zeros((64, 64), dtype=np.uint8)
    stripes[::2] = 200
    small = fit_square(stripes, 16)
    # Taking every fourth row would give 200 or 0 throughout.
    assert abs(float(small[2:-2].mean()) - 100) < 3
    assert small[2:-2].std() < 12


@given(rows=st.integers(1, 40), columns=st.integers(1, 40), size=st.integers(8, 40))
def test_any_shape_becomes_a_square(rows: int, columns: int, size: int) -> None:
    assert fit_square(gradient(rows, columns), size).shape == (size, size)


def test_a_wide_image_is_padded_and_not_stretched() -> None:
    bright = np.full((10, 20), 255, dtype=np.uint8)
    square = fit_square(bright, 20)
    assert np.array_equal(square[5:15], bright)
    assert not square[:5].any()
    assert not square[15:].any()


def test_colour_becomes_grey(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16, 3), 90, dtype=np.uint8)).save(tmp_path / "c.png")
    assert (read_image(tmp_path / "c.png", 16) == 90).all()


def test_sixteen_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16), 3000, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png: has pixel type I;16"):
        read_image(tmp_path / "deep.png", 16)


def test_damage_is_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "whole.png", gradient(64, 64))
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"cut\.png: cannot be decoded"):
        read_image(tmp_path / "cut.png", 64)


@given(where=st.integers(8, 200), value=st.integers(0, 255))
def test_a_flipped_byte_gives_an_image_or_a_named_error(where: int, value: int) -> None:
    buffer = io.BytesIO()
    Image.fromarray(gradient(24, 24)).save(buffer, format="PNG")
    data = bytearray(buffer.getvalue())
    data[where % len(data)] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.png"
        path.write_bytes(data)
        with contextlib.suppress(DataError):  # any other error fails the test
            assert read_image(path, 24).shape == (24, 24)


def test_text_and_absence_are_refused(tmp_path: Path) -> None:
    (tmp_path / "note.png").write_text("not a picture")
    with pytest.raises(DataError, match=r"note\.png: not a PNG"):
        read_image(tmp_path / "note.png", 16)
    with pytest.raises(DataError, match=r"gone\.png: no such image"):
        read_image(tmp_path / "gone.png", 16)


def test_a_decompression_bomb_is_refused_before_decoding(tmp_path: Path) -> None:
    Image.new("1", (10_000, 10_000)).save(tmp_path / "bomb.png")
    with pytest.raises(DataError, match=r"bomb\.png: 10000 x 10000 pixels"):
        read_image(tmp_path / "bomb.png", 16)
