"""Headers of one series are read once: what differs from image to image is little.

Understanding a header takes five times as long as reading it. Two headers that are equal byte for
byte, but for elements that differ within a series and that nothing but a few fields of `Slice` is
read from, are the same series: the second image is the first with these fields anew. Any other
difference, a sequence that matters, a mosaic or several frames, and the header is read in full; so
a wrong list here costs time, and a right one is what a test holds it to be.
"""

from collections import OrderedDict
from collections.abc import Collection, Hashable
from dataclasses import replace
from pathlib import Path

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from securefed.data.dicom.header import MOMENTS, Slice, numbers, one_line, slices_of, whole
from securefed.data.dicom.objects import require_image

_KNOWN = 64  # series that files may be mixed of
# Of Slice: instance, number, position, moments. Else read with the pixels, or by nobody.
OF_AN_IMAGE = frozenset(
    tag_for_keyword(keyword)
    for keyword in (
        *("SOPInstanceUID", "InstanceNumber", "ImagePositionPatient", "SliceLocation"),
        *("AcquisitionNumber", "AcquisitionTime", "ContentTime", "TriggerTime"),
        *("InstanceCreationDate", "InstanceCreationTime", "WindowCenter", "WindowWidth"),
        *("WindowCenterWidthExplanation", "RescaleSlope", "RescaleIntercept"),
        *("SmallestImagePixelValue", "LargestImagePixelValue", "ExposureTime", "Exposure"),
        *("FrameReferenceTime", "DecayFactor", "ImageIndex"),
        *("XRayTubeCurrent", "CTDIvol", "SAR", "ImageComments", "NumberOfAverages"),
    )
)
_SEQUENCES = frozenset(
    tag_for_keyword(keyword)
    for keyword in (
        *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
        "AnatomicRegionSequence",
    )
)
_IMAGE_TYPE, _FRAMES = tag_for_keyword("ImageType"), tag_for_keyword("NumberOfFrames")
_CLASS = tag_for_keyword("SOPClassUID")
_PRIVATE = (0x0019, 0x0043)  # groups of makers of which one element each is looked at
_LOOKED_AT = (0x0A, 0x2F)


class AlikeHeaders:
    """Reads headers, and remembers the last series.

    Args:
        kinds, allow_burned_in: as in `require_image`.
        label_attribute: as in `slices_of`.
    """

    def __init__(
        self, *, kinds: Collection[str], allow_burned_in: bool, label_attribute: str
    ) -> None:
        self._kinds = kinds
        self._allow_burned_in = allow_burned_in
        self._label_attribute = label_attribute
        self._known: OrderedDict[Hashable, Slice] = OrderedDict()

    def images(self, path: Path, header: Dataset) -> list[Slice]:
        """The images of one file, whose header was just read and not looked at.

        Raises:
            UnwantedError, DataError: as `require_image` and `slices_of`.
        """
        key = self._key(header)
        known = self._known.get(key) if key is not None else None
        if known is not None:
            return [_another(known, path, header)]
        require_image(header, kinds=self._kinds, allow_burned_in=self._allow_burned_in)
        images = slices_of(path, header, self._label_attribute)
        if key is not None:
            self._known[key] = images[0]
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        return images

    def _key(self, header: Dataset) -> Hashable | None:
        """What is the same in all images of a series; None where that cannot be told quickly."""
        parts: list[Hashable] = []
        for tag, element in header.items():
            group = tag >> 16
            if tag in OF_AN_IMAGE or (group & 1 and not _is_looked_at(tag)):
                continue
            if tag in _SEQUENCES or tag == _FRAMES:
                return None
            if isinstance(element, RawDataElement):
                parts += (int(tag), element.VR, element.value)
            elif element.VR != "SQ":  # of sequences none but the above is looked at
                parts += (int(tag), str(element.value))  # the character set, which is read at once
        image_type = header.get_item(_IMAGE_TYPE) if _IMAGE_TYPE in header else None
        if image_type is not None and b"MOSAIC" in (image_type.value or b""):
            return None
        asked = tag_for_keyword(self._label_attribute) if self._label_attribute else None
        return None if asked in OF_AN_IMAGE or _CLASS not in header else tuple(parts)


def _is_looked_at(tag: int) -> bool:
    element = tag & 0xFFFF
    return tag >> 16 in _PRIVATE and (element < 0x100 or element & 0xFF in _LOOKED_AT)


@one_line
def _another(known: Slice, path: Path, header: Dataset) -> Slice:
    moments = (
        str(header.get(keyword, "") or "") if tag_for_keyword(keyword) in OF_AN_IMAGE else moment
        for keyword, moment in zip(MOMENTS, known.moments, strict=True)
    )
    return replace(
        known,
        path=path,
        instance=str(header.get("SOPInstanceUID", "") or ""),
        number=whole(header, "InstanceNumber"),
        position=numbers(header, "ImagePositionPatient", 3),
        moments=tuple(moments),
    )
