"""Pictures from outside are read by content, fitted to size, or refused by name."""

import contextlib
import io
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from securefed.data.images import doubt_about, fit_square, read_image, read_picture, write_png
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


def drawn(kind: str) -> Image.Image:
    """A scan of 128 x 128 pixels with real colours."""
    grey = gradient(128, 128)
    channels = np.repeat(grey[..., None], 3, axis=2)
    if kind == "outline":
        channels[40:80, 60] = channels[40:80, 90] = (255, 0, 0)
    elif kind == "channels":
        channels = np.stack([grey, grey[::-1], np.roll(grey, 40, axis=1)], axis=2)
    elif kind == "map":
        palette = Image.fromarray(grey).convert("P")
        palette.putpalette([v for k in range(256) for v in (k, 0, 255 - k)])
        return palette
    return Image.fromarray(channels)


@pytest.mark.parametrize("kind", ["outline", "channels", "map"])
def test_real_colours_are_refused(tmp_path: Path, kind: str) -> None:
    """What grey lay there is not known, and an outline of a tumour gives the label away."""
    drawn(kind).save(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"c\.png: is in colour, \d+\.\d% of it"):
        read_image(tmp_path / "c.png", 128)


def test_grey_that_jpeg_tinted_is_no_colour(tmp_path: Path) -> None:
    drawn("grey").save(tmp_path / "c.jpg", quality=30)
    warm = np.repeat(gradient(64, 64)[..., None], 3, axis=2) * np.array([1, 0.9, 0.8])
    Image.fromarray(warm.astype(np.uint8)).save(tmp_path / "warm.png")
    for name in ("c.jpg", "warm.png"):
        assert read_image(tmp_path / name, 64).std() > 30


def test_colour_becomes_grey(tmp_path: Path) -> None:
    colours = np.repeat(gradient(16, 16)[..., None], 3, axis=2)
    Image.fromarray(colours).save(tmp_path / "c.png")
    assert np.array_equal(read_image(tmp_path / "c.png", 16), gradient(16, 16))


def deep_png(path: Path, colour_type: int, channels: int) -> None:
    """A PNG of 16 bits per channel, which pillow does not write in colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    pixels = np.repeat(np.arange(64).reshape(8, 8, 1) * 60, channels, axis=2).astype(">u2")
    lines = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", 8, 8, 16, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_of_colour_or_with_alpha_are_refused(
    tmp_path: Path, colour_type: int, channels: int
) -> None:
    deep_png(tmp_path / "deep.png", colour_type, channels)
    with pytest.raises(DataError, match=r"deep\.png: has 16 bits in each colour"):
        read_image(tmp_path / "deep.png", 16)


@pytest.mark.parametrize(
    "values",
    [
        np.arange(256, dtype=np.uint16).reshape(16, 16) * 16,
        np.arange(256, dtype=np.int32).reshape(16, 16) - 1000,
        np.arange(256, dtype=np.float32).reshape(16, 16) / 256,
    ],
)
def test_deep_grey_is_refused_with_the_import_that_scales_it(
    tmp_path: Path, values: np.ndarray
) -> None:
    Image.fromarray(values).save(tmp_path / "deep.tif")
    with pytest.raises(DataError, match=r"deep\.tif: holds grey of more than 8 .*--levels"):
        read_image(tmp_path / "deep.tif", 16)
    assert np.array_equal(read_picture(tmp_path / "deep.tif"), values.astype(np.float32))


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.float32).reshape(16, 16)
    values[3, 4] = np.nan
    Image.fromarray(values).save(tmp_path / "nan.tif")
    with pytest.raises(DataError, match="values that are no numbers"):
        read_picture(tmp_path / "nan.tif")


@pytest.mark.parametrize("mark", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_picture_is_turned_as_its_mark_says(tmp_path: Path, mark: int, suffix: str) -> None:
    upright = np.kron(np.array([[40, 200], [90, 140]]), np.ones((16, 16))).astype(np.uint8)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, 3),
    }[mark]
    exif = Image.Exif()
    exif[0x0112] = mark
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"a.{suffix}", exif=exif)
    seen = read_image(tmp_path / f"a.{suffix}", 32)
    assert np.abs(seen.astype(int) - upright).max() <= 3


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_several_pages_are_refused(tmp_path: Path, suffix: str) -> None:
    pages = [Image.fromarray(gradient(16, 16) + number) for number in range(3)]
    pages[0].save(tmp_path / f"p.{suffix}", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="holds 3 pages or frames"):
        read_image(tmp_path / f"p.{suffix}", 16)


def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    """In every way in which a PNG says so: alpha, a transparent colour, a palette."""
    grey = gradient(16, 16)
    expected = grey.copy()
    expected[:, 8:] = 0
    alpha = np.where(np.arange(16) < 8, 255, 0)[None].repeat(16, 0).astype(np.uint8)
    Image.merge("LA", [Image.fromarray(each) for each in (grey, alpha)]).save(tmp_path / "la.png")
    colours = np.repeat(grey[..., None], 3, axis=2)
    Image.fromarray(np.concatenate([colours, alpha[..., None]], 2)).save(tmp_path / "rgba.png")
    keyed = grey.copy()
    keyed[:, 8:] = 255
    Image.fromarray(keyed).save(tmp_path / "keyed.png", transparency=255)
    palette = Image.fromarray(keyed, mode="P")
    palette.putpalette([value for value in range(256) for _ in range(3)])
    palette.save(tmp_path / "palette.png", transparency=255)
    for name in ("la", "rgba", "keyed", "palette"):
        assert np.array_equal(read_image(tmp_path / f"{name}.png", 16), expected), name


def test_inks_are_refused(tmp_path: Path) -> None:
    Image.fromarray(gradient(16, 16)).convert("CMYK").save(tmp_path / "ink.jpg")
    with pytest.raises(DataError, match=r"ink\.jpg: has pixel type CMYK"):
        read_image(tmp_path / "ink.jpg", 16)


@pytest.mark.parametrize("value", [0, 90, 255])
def test_a_picture_of_one_value_is_refused(tmp_path: Path, value: int) -> None:
    write_png(tmp_path / "flat.png", np.full((16, 16), value, dtype=np.uint8))
    with pytest.raises(DataError, match=f"is blank, every pixel has the value {value}"):
        read_image(tmp_path / "flat.png", 16)


def test_saturated_and_dark_pictures_are_doubted_and_scans_are_not() -> None:
    disc = np.hypot(*np.mgrid[-32:32, -32:32]) < 25
    saturated = np.where(disc, 255, 0).astype(np.uint8)
    assert "saturated, or a mask" in str(doubt_about(saturated))
    assert "saturated, or a mask" in str(doubt_about(255 - saturated))
    assert "nearly black" in str(doubt_about(gradient(64, 64) // 32))
    assert doubt_about(np.where(disc, gradient(64, 64), 0).astype(np.uint8)) is None


def test_other_formats_are_named(tmp_path: Path) -> None:
    Image.fromarray(gradient(16, 16)).save(tmp_path / "moving.gif")
    with pytest.raises(DataError, match="BMP image but GIF"):
        read_image(tmp_path / "moving.gif", 16)
    (tmp_path / "nothing.png").touch()
    with pytest.raises(DataError, match="it is empty"):
        read_image(tmp_path / "nothing.png", 16)


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
