"""What kind of object a DICOM file is: an image to look at further, or something else.

Reports, spectra, raw data, presentation states and other modalities are sound and not wanted: they
are skipped and counted. Images that may show the patient's name in the pixels (secondary captures,
BurnedInAnnotation YES) are refused, because no import rule can remove it; a file that does not
declare its burned-in text passes.
"""

from collections.abc import Collection

from pydicom.dataset import Dataset
from pydicom.uid import UID

from securefed.data.dicom.nuclear import is_reconstructed
from securefed.errors import DataError

LARGEST_EDGE = 4096
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame children .1 to .4


# Word of a class's name -> Modality
_BY_CLASS = {"CT": "CT", "MR": "MR", "PET": "PT", "Positron": "PT", "Nuclear": "NM"}


class UnwantedError(Exception):
    """A sound file that is not wanted; its text is the reason."""


def modality_of(header: Dataset) -> str:
    """Modality in capitals, "" if it is absent."""
    return str(header.get("Modality", "") or "").strip().upper()


def require_image(header: Dataset, *, kinds: Collection[str], allow_burned_in: bool) -> None:
    """Pass grey images of these modalities, of a named patient.

    Raises:
        UnwantedError: no image, or of another modality.
        DataError: it may show a name, has colour, no PatientID, or is too large.
    """
    meta = getattr(header, "file_meta", {})
    kind = UID(str(header.get("SOPClassUID", "") or meta.get("MediaStorageSOPClassUID", "")))
    modality = modality_of(header)
    if not kind:
        raise DataError("has no SOPClassUID; is it cut off?")
    if not _is_image(kind, header):
        raise UnwantedError(f"no image: {kind.name if kind.type else 'object of a maker'}")
    if not modality or "Rows" not in header or "Columns" not in header:
        raise DataError("has no Modality, Rows or Columns; is it cut off?")
    if kind.startswith(_SECONDARY_CAPTURE) and not allow_burned_in:
        raise DataError("is a secondary capture, which may show the patient's name")
    if str(header.get("BurnedInAnnotation", "") or "").upper() == "YES" and not allow_burned_in:
        raise DataError("declares burned-in annotation, which may show the patient's name")
    if modality not in kinds:
        raise UnwantedError(f"modality {modality}")
    if modality == "NM" and not is_reconstructed(header):
        raise UnwantedError("nuclear image that is no reconstructed volume")
    said = next((name for word, name in _BY_CLASS.items() if word in kind.name.split()), modality)
    if kind.type and said != modality:
        raise DataError(f"is {kind.name} by its class and {modality} by its Modality")
    if str(header.get("PhotometricInterpretation", "")) not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError("is not a grey image (PhotometricInterpretation)")
    if not str(header.get("PatientID", "") or "").strip():
        raise DataError("has no PatientID, so its patient is unknown")
    if max(int(header.Rows), int(header.Columns)) > LARGEST_EDGE:
        raise DataError(f"is larger than {LARGEST_EDGE} pixels")


def _is_image(kind: UID, header: Dataset) -> bool:
    """By its class (PS3.4, B.5), or by its pixel description where a maker has its own class."""
    if kind.type:  # one of the standard's
        return "Image Storage" in kind.name
    return "Rows" in header and "PhotometricInterpretation" in header
