"""Files that an import does not read are named by what they are."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from securefed.data.dicom.files import scan_tree
from securefed.data.dicom.tree import import_dicom
from securefed.data.export import new_dataset
from securefed.data.file_kinds import kind_of
from securefed.data.import_rules import ImportRules
from securefed.data.pseudonyms import SiteKey
from securefed.errors import DataError

NIFTI = (348).to_bytes(4, "little") + bytes(340) + b"n+1\0" + bytes(100)


def picture(format_name: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(buffer, format=format_name)
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", "b")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return buffer.getvalue()


# Looked up by name: the bytes of an archive hold the time, and no test may be named after those.
KINDS: dict[str, tuple[bytes, str | None]] = {
    "a.nii": (NIFTI, "NIfTI"),
    "a.nii.gz": (gzip.compress(NIFTI), "NIfTI"),
    "a.gz": (gzip.compress(b"x"), "gzip archive"),
    "a.tgz": (gzip.compress(tarred()), "tar archive"),
    "a.tar": (tarred(), "tar archive"),
    "a.zip": (zipped(), "zip archive"),
    "a.nrrd": (b"NRRD0004\ntype: short\n", "NRRD"),
    "a.mha": (b"ObjectType = Image\n", "MetaImage"),
    "png-in-disguise.tif": (picture("PNG"), "PNG"),
    "a.tif": (picture("TIFF"), "TIFF"),
    "a.bmp": (picture("BMP"), "BMP"),
    "a.gif": (picture("GIF"), "GIF"),
    "a.webp": (picture("WEBP"), "WebP"),
    "a.iso": (bytes(32769) + b"CD001", "ISO disc image"),
    "a.hdr": ((348).to_bytes(4, "little") + bytes(344), "Analyze"),
    "a.PAR": (b"# === DATA DESCRIPTION FILE ===", "Philips PAR"),
    "old scans.lnk": (b"L\0\0\0\x01\x14\x02\0" + bytes(60), "Windows shortcut"),
    "a.txt": (b"some words", None),
    "a.dcm": (b"", "empty"),
}


@pytest.mark.parametrize("name", KINDS)
def test_content_names_a_file(tmp_path: Path, name: str) -> None:
    data, kind = KINDS[name]
    (tmp_path / name).write_bytes(data)
    assert kind_of(tmp_path / name) == kind


def test_files_that_are_not_read_are_counted_and_named(
    tmp_path: Path, write_series: Callable[..., list[Path]]
) -> None:
    write_series(tmp_path / "scan", np.ones((2, 8, 8), dtype=np.int16))
    (tmp_path / "export.zip").write_bytes(zipped())
    for number in range(5):
        (tmp_path / f"{number}.nii").write_bytes(NIFTI)
    skipped = scan_tree(tmp_path).skipped
    assert skipped.counts == {"zip archive, not DICOM": 1, "NIfTI, not DICOM": 5}
    assert list(skipped.lines()) == [
        "skipped 5 files: NIfTI, not DICOM (0.nii, 1.nii, 2.nii, ...)",
        "skipped 1 file: zip archive, not DICOM (export.zip)",
    ]


def test_a_tree_without_dicom_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.nii").write_bytes(NIFTI)
    with (
        pytest.raises(DataError, match="1 file: NIfTI") as caught,
        new_dataset(tmp_path / "out") as writer,
    ):
        import_dicom(tmp_path / "tree", writer, {"a": 1}, SiteKey(bytes(32)), ImportRules())
    assert "NIfTI files are not read" in str(caught.value.hint)
