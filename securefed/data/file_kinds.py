"""What a file is, from its first bytes: names for what an import meets and does not read.

Only names for a message: nothing here is opened further than its first bytes, or trusted. NIfTI has
its mark at byte 344; NIfTI inside gzip goes by its name, as looking needs unpacking.
"""

from pathlib import Path

MAC_EXTRAS = "macOS extras"  # ._NAME beside NAME: icons and the like
SPREADSHEET = "spreadsheet"
NIFTI = "NIfTI"
_ISO, _DICOM, _OFFICE = "ISO disc image", "DICOM", "Office document"
_HEAD_BYTES = 352  # a NIfTI-1 header with its mark
_MARKS = (
    (128, b"DICM", _DICOM),
    (344, b"n+1\0", NIFTI),
    (344, b"ni1\0", NIFTI),
    (4, b"n+2\0", NIFTI),
    (4, b"ni2\0", NIFTI),
    (0, (348).to_bytes(4, "little"), "Analyze"),  # as NIfTI, without its mark
    (0, (348).to_bytes(4, "big"), "Analyze"),
    (0, b"# === DATA DESCRIPTION FILE", "Philips PAR"),
    (0, b"!INTERFILE", "Interfile"),
    (0, b"NRRD0", "NRRD"),
    (0, b"ObjectType", "MetaImage"),
    (0, b"NDims", "MetaImage"),
    (0, b"PK\x03\x04", "zip archive"),
    (0, b"PK\x05\x06", "zip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (0, b"Rar!\x1a\x07", "rar archive"),
    (257, b"ustar", "tar archive"),
    (0, b"\x1f\x8b", "gzip archive"),
    (0, b"BZh", "bzip2 archive"),
    (0, b"\xfd7zXZ\0", "xz archive"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard archive"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),  # BigTIFF
    (0, b"MM\0+", "TIFF"),
    (0, b"BM", "BMP"),
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WebP"),
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypavif", "AVIF"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),  # MINC 2 and MATLAB 7.3 too
    (0, b"CDF\x01", "MINC or NetCDF"),
    (0, b"MATLAB 5.0 MAT-file", "MATLAB"),
    (0, b"\x93NUMPY", "NumPy"),
    (0, b"%PDF", "PDF"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OFFICE),  # of old; Thumbs.db too
    (0, b"MZ", "Windows program"),  # viewers on CDs
    (0, b"version https://git-lfs", "Git LFS pointer"),  # the file itself was not fetched
    (0, b"<html", "web page"),  # what a failed download leaves
    (0, b"<!DOCTYPE html", "web page"),
    (0, b"\0\x05\x16\x07", MAC_EXTRAS),
    (0, b"L\0\0\0\x01\x14\x02\0", "Windows shortcut"),  # a folder may lie behind it
    (0, b"book\0\0\0\0mark", "macOS alias"),
)
_GZIP, _ZIP = "gzip archive", "zip archive"
PICTURES = ("PNG", "JPEG", "TIFF", "BMP")
ARCHIVES = tuple(dict.fromkeys(name for _, _, name in _MARKS if name.endswith("archive")))
OTHER_SCANS = (
    *(NIFTI, "NRRD", "MetaImage", "MINC or NetCDF", "Analyze", "Philips PAR", "Interfile"),
)
_ISO_MARK_AT = 32769  # of a CD or DVD: far behind the first bytes


def kind_of(path: Path) -> str | None:
    """The format of a file, "empty" for no bytes, None for one not known here.

    Raises:
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        file.seek(_ISO_MARK_AT)
        if file.read(5) == b"CD001":
            return _ISO
    return kind_of_bytes(head, path.name)


def kind_of_bytes(head: bytes, name: str) -> str | None:
    """As `kind_of`, from a file's first bytes and its name."""
    if not head:
        return "empty"
    kind = next((name for at, mark, name in _MARKS if head[at : at + len(mark)] == mark), None)
    name = name.lower()
    if kind == _ZIP and name.endswith((".xlsx", ".xlsm", ".ods")):
        return SPREADSHEET
    if kind == _GZIP and name.endswith((".nii.gz", ".hdr.gz", ".img.gz")):
        return NIFTI
    if kind == _GZIP and name.endswith((".tgz", ".tar.gz")):
        return "tar archive"
    return kind


def way_out(kind: str | None) -> str | None:
    """What to do with such a file where another kind was wanted; None where nobody knows."""
    if kind == _DICOM:
        return (
            "securefed data import FOLDER --labels labels.csv --out NEW; labels.csv has the "
            "columns patient_id,label with the PatientID of the files"
        )
    if kind in (*ARCHIVES, _ISO):
        return "unpack it, and give the folder"
    if kind in (SPREADSHEET, _OFFICE):
        return "export it as CSV, UTF-8"
    if kind == NIFTI:
        return "give a folder of them alone, as ct/NAME.nii.gz and mri/NAME.nii.gz"
    return "convert the scans to NIfTI, or export DICOM" if kind in OTHER_SCANS else None
