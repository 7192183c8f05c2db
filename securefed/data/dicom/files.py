"""Every file below a folder, and which of them are DICOM: by content, never by suffix.

Nothing is passed over in silence. A file is DICOM if "DICM" stands at byte 128 (PS3.10, section
7.1); older archives lack that mark, so a file that begins like a data set and has a class, a
patient and a modality inside is read too.
"""

import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from securefed.data.dicom.alike import AlikeHeaders
from securefed.data.dicom.header import Slice
from securefed.data.dicom.objects import UnwantedError
from securefed.data.dicom.pixels import read_dataset, unwarned
from securefed.data.dicom.structured import StructuredReport, is_report, read_report
from securefed.data.file_kinds import MAC_EXTRAS, kind_of, way_out
from securefed.data.skipped import Skipped
from securefed.data.table import Problem
from securefed.data.walk import files_below, place_of
from securefed.errors import DataError

NOT_DICOM = ", not DICOM"
# The first element of a data set without mark: group 2 or 8, in either byte order.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")


@dataclass(frozen=True)
class Scan:
    """What a folder tree holds."""

    slices: list[Slice] = field(default_factory=list)
    reports: list[StructuredReport] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)


@unwarned()
def scan_tree(
    root: Path,
    *,
    kinds: Collection[str] = ("CT", "MR"),
    allow_burned_in: bool = False,
    label_attribute: str = "",
    label_report: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Scan:
    """Read the headers of all DICOM files below a folder, in the order of their paths.

    Args:
        kinds: Modality values that are looked at.
        label_attribute: as in `slices_of`.
        label_report: concept of structured reports, as in `read_report`; "" to skip reports.
        progress: called with (files read, files in all).

    Raises:
        DataError: no such folder.
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "no such folder"
        out = way_out(kind_of(root)) if root.is_file() else None
        unpack = out if out and out.startswith("unpack") else None
        raise DataError(f"{root}: {what}", hint=unpack or "give the top of the DICOM tree")
    scan = Scan()
    headers = AlikeHeaders(
        kinds=kinds, allow_burned_in=allow_burned_in, label_attribute=label_attribute
    )
    paths = list(files_below(root, scan.problems, scan.skipped))
    for done, path in enumerate(paths):
        progress(done, len(paths))
        place = place_of(path, root)
        try:
            header = _read_header(path)
            if label_report and is_report(header):
                scan.reports.append(read_report(path, header, label_report))
            else:
                scan.slices.extend(headers.images(path, header))
        except UnwantedError as reason:
            scan.skipped.add(str(reason), place)
        except DataError as error:
            scan.problems.append(Problem(place, str(error)))
    return scan


def _read_header(path: Path) -> Dataset:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnwantedError("not a regular file")  # opening a pipe would wait for ever
        kind = kind_of(path)
        begins_like_dicom = kind is None and _begins_like_dicom(path)
    except OSError as error:
        raise DataError(f"cannot be opened ({error.strerror})") from None
    if kind == "DICOM":
        return read_dataset(path, pixels=False)
    if begins_like_dicom:
        header = _without_mark(path)
        if header is not None:
            return header
    if path.suffix.lower() not in (".dcm", ".dicom", ".ima") or kind == MAC_EXTRAS:
        raise UnwantedError(kind + NOT_DICOM if kind else "not a DICOM file")
    raise DataError("is empty" if kind == "empty" else f"is {kind or 'something else'}{NOT_DICOM}")


def _begins_like_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) in _FIRST_GROUPS


def _without_mark(path: Path) -> Dataset | None:
    try:
        header = read_dataset(path, pixels=False)
        told = all(header.get(word, None) for word in ("SOPClassUID", "Modality", "PatientID"))
    except DataError:
        return None
    return header if told else None
