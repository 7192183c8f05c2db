"""One header per image, also where one file holds many: functional groups (PS3.3, C.7.6.16).

An enhanced CT or MR object keeps geometry and rescale in sequences, once for all frames or once for
each, a mosaic has its slices side by side, and a SPECT has a geometry of its own (nuclear).
`frame_headers` lays them flat, so that the rest of
the import reads every image alike.
"""

from collections.abc import Iterator

from pydicom.dataset import Dataset

from securefed.data.dicom.mosaics import mosaic_of, set_own
from securefed.data.dicom.nuclear import is_reconstructed, slice_header
from securefed.errors import DataError

LARGEST_FRAMES = 20_000  # of one file
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# Where an enhanced object names a fact in its own words.
_OTHER_KEYWORDS = {"FrameType": "ImageType", "EffectiveEchoTime": "EchoTime"}


def frame_headers(header: Dataset) -> Iterator[tuple[int | None, Dataset]]:
    """Each image of a file: its number (None where the file is one image), and its flat header.

    Raises:
        DataError: several frames without functional groups, or other than it says.
    """
    count = int(header.get("NumberOfFrames", None) or 1)
    shared, frames = (header.get(keyword, None) or () for keyword in _GROUPS)
    if count > LARGEST_FRAMES:
        raise DataError(f"holds {count} frames, more than {LARGEST_FRAMES}")
    if is_reconstructed(header):
        yield from ((number, slice_header(header, number)) for number in range(count))
        return
    if not shared and not frames:
        if count > 1:
            raise DataError(
                f"holds {count} frames without functional groups, so their places are unknown"
            )
        yield from _plain(header)
        return
    if frames and len(frames) != count:
        raise DataError(f"has functional groups for {len(frames)} of {count} frames")
    for number in range(count):
        yield number, flat_header(header, number)


def _plain(header: Dataset) -> Iterator[tuple[int | None, Dataset]]:
    mosaic = mosaic_of(header)
    if mosaic is None:
        yield None, header
        return
    for number in range(mosaic.tiles):
        yield number, mosaic.header(header, number)


def flat_header(header: Dataset, number: int | None) -> Dataset:
    """The header of one frame, with its functional groups as plain elements."""
    if number is None:
        return header
    if is_reconstructed(header):
        return slice_header(header, number)
    mosaic = mosaic_of(header)
    if mosaic is not None:
        return mosaic.header(header, number)
    flat = Dataset()
    flat.update({e.tag: e for e in header if e.keyword not in (*_GROUPS, "PixelData")})
    shared, frames = (header.get(keyword, None) or () for keyword in _GROUPS)
    for groups in (*shared[:1], *frames[number : number + 1]):
        for group in groups:
            if group.VR == "SQ" and group.value:
                flat.update({element.tag: element for element in group.value[0]})
    for keyword, plain in _OTHER_KEYWORDS.items():
        if flat.get(keyword, None):
            set_own(flat, **{plain: flat[keyword].value})
    if len(frames) > 1:  # the file's own number is the same for all
        set_own(flat, InstanceNumber=number + 1)
    return flat
