"""Fetch the images of patients from a DICOMweb service, so that it can be taken up again.

QIDO-RS lists a patient's studies, their series and images, WADO-RS gives one image at a time
(PS3.18, sections 10.6 and 10.4). Each is written whole or not at all, and a series that is whole is
marked, so that a second start asks for neither. What the server says is checked: an image of
another patient, or another image than was asked for, is not kept. Memory: one image, and the list
of a series. The folder holds names of patients; its owner alone can read it.
"""

import hashlib
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset

from securefed.data.dicom.pixels import unwarned
from securefed.data.dicomweb.address import require_address, session_for
from securefed.data.names import shown
from securefed.data.table import Problem
from securefed.errors import DataError
from securefed.files import is_lock, write_atomically, writing_into

_UID = re.compile(r"[0-9.]{1,64}")
_NO_NAME = re.compile(r"[*?\\,]")  # wildcards and separators of QIDO: they would ask for others too
WHOLE = "whole"  # what marks series that are there
_PAGE = 200  # studies
_WAIT_S = 60.0
_FAILED = (requests.RequestException, DataError, ValueError, OSError, AttributeError, KeyError)


@dataclass(frozen=True)
class Archive:
    """A DICOMweb service and the folder into which it is fetched.

    Attributes:
        scans: where the images lie, one folder for each series.
    """

    address: str
    folder: Path
    client: DICOMwebClient = field(repr=False)
    kinds: frozenset[str]
    problems: list[Problem] = field(default_factory=list, repr=False)

    @property
    def scans(self) -> Path:
        """The tree to import."""
        return self.folder / "scans"

    def place(self, series: str) -> Path:
        """The folder of a series."""
        return self.scans / _short(f"{self.address} {series}")

    def mark(self, series: str) -> Path:
        """What says that a series was fetched whole."""
        return self.folder / WHOLE / _short(f"{self.address} {series}")


def fetch(
    address: str,
    folder: Path,
    patients: Sequence[str] | None,
    kinds: Collection[str] = ("CT", "MR"),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Archive:
    """Fetch what is not in the folder yet.

    Args:
        patients: whose scans to ask for, by PatientID; None for all that the service lists.
        kinds: Modality values of the series to fetch.
        progress: called with (patients asked for, patients in all).

    Raises:
        ConfigurationError: an address or credentials that cannot be used.
        DataError: the service cannot be reached, or refuses to answer at all; or the folder holds
            something else, which would be imported, and removed at the end.
    """
    address = require_address(address)
    session = session_for(address)
    client = DICOMwebClient(address, session, timeout=_WAIT_S)
    client.set_http_retry_params(retry=False)  # the session tries again
    archive = Archive(address, folder, client, frozenset(kinds))
    _require_own(folder)
    folder.mkdir(mode=0o700, exist_ok=True)
    with session, writing_into(folder):
        for made in (folder / WHOLE, archive.scans):  # in this order, see `_require_own`
            made.mkdir(exist_ok=True)
        if patients is None:
            for study in _all_studies(archive):
                _fetch_study(archive, study)
            return archive
        for done, patient in enumerate(patients):
            progress(done, len(patients))
            for study in _studies_of(archive, patient):
                _fetch_study(archive, study)
    return archive


def _require_own(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise DataError(f"{folder} is no folder", hint="remove it, or choose another --out")
    others = (
        [each for each in folder.iterdir() if not is_lock(each.name)] if folder.exists() else []
    )
    if others and not (folder / WHOLE).is_dir():
        raise DataError(
            f"{folder} is where scans would be fetched to, and holds something else",
            hint="move it away, or choose another --out",
        )


def _studies_of(archive: Archive, patient: str) -> Iterator[Dataset]:
    if _NO_NAME.search(patient):
        why = "its signs stand for other patients too in a query; not asked for"
        archive.problems.append(Problem(shown(patient), why))
        return
    yield from (
        study
        for study in _asked(archive, "studies", search_filters={"PatientID": patient})
        if str(study.get("PatientID", "")).strip() == patient
    )


def _all_studies(archive: Archive) -> Iterator[Dataset]:
    offset = 0
    while True:
        page = _asked(archive, "studies", limit=_PAGE, offset=offset)
        yield from page
        if len(page) < _PAGE:
            return
        offset += _PAGE


def _fetch_study(archive: Archive, study: Dataset) -> None:
    patient, uid = str(study.get("PatientID", "") or "").strip(), _uid(study, "StudyInstanceUID")
    found = _asked(archive, "series", uid, get_remaining=True)
    for series in found:
        if str(series.get("Modality", "")) in archive.kinds:
            _fetch_series(archive, patient, uid, _uid(series, "SeriesInstanceUID"))


def _fetch_series(archive: Archive, patient: str, study: str, series: str) -> None:
    mark, place = archive.mark(series), archive.place(series)
    if mark.exists():
        return
    place.mkdir(exist_ok=True)
    whole = True
    for listed in _asked(archive, "instances", study, series, get_remaining=True):
        image = _uid(listed, "SOPInstanceUID")
        target = place / f"{_short(image)}.dcm"
        if target.exists():
            continue
        try:
            write_atomically(target, _image(archive, patient, study, series, image))
        except requests.ConnectionError as error:
            raise _unreachable(archive, error) from None
        except _FAILED as error:
            whole = False
            why = f"image {image} was not fetched: {_why(error)}"
            archive.problems.append(Problem(shown(patient), why))
    if whole:
        mark.touch()


@unwarned()
def _image(archive: Archive, patient: str, study: str, series: str, image: str) -> bytes:
    dataset = archive.client.retrieve_instance(study, series, image)
    if str(dataset.get("SOPInstanceUID", "")) != image:
        raise DataError("the service gave another image")
    if str(dataset.get("PatientID", "") or "").strip() != patient:
        raise DataError("the service gave an image of another patient")
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


@unwarned()
def _asked(archive: Archive, what: str, *uids: str, **options: Any) -> list[Dataset]:
    """The answers to a query, as data sets.

    Raises:
        DataError: there is none, or it is none.
    """
    try:
        found: Iterable[Any] = getattr(archive.client, f"search_for_{what}")(*uids, **options)
        return [Dataset.from_json(each) for each in found]
    except requests.ConnectionError as error:
        raise _unreachable(archive, error) from None
    except DataError as error:
        raise DataError(f"{archive.address}: {error}", hint="is this a DICOMweb service?") from None
    except Exception as error:  # noqa: BLE001 - what a server answers makes readers raise anything
        hint = "start again: what was fetched whole stays"
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            hint = "see docs/data.md for credentials: the environment, or netrc"
        raise DataError(f"{archive.address}: {_why(error)}", hint=hint) from None


def _uid(dataset: Dataset, keyword: str) -> str:
    uid = str(dataset.get(keyword, "") or "")
    if not _UID.fullmatch(uid):
        raise DataError(f"the service names no {keyword}", hint="is this a DICOMweb service?")
    return uid


def _unreachable(archive: Archive, error: requests.ConnectionError) -> DataError:
    if isinstance(error, requests.exceptions.SSLError):
        return DataError(
            f"{archive.address}: its certificate is not trusted",
            hint="name the authority's file in REQUESTS_CA_BUNDLE",
        )
    return DataError(
        f"{archive.address}: cannot be reached",
        hint="start again when it can: what was fetched whole is not fetched again",
    )


def _why(error: Exception) -> str:
    """One line, without the address and what is asked for."""
    if isinstance(error, requests.TooManyRedirects):
        return "it sends us elsewhere, which is not followed"
    response = getattr(error, "response", None)
    if response is not None:
        return f"it answered {response.status_code} {response.reason or ''}".rstrip()
    if isinstance(error, DataError):
        return str(error)
    return f"no answer that can be read ({type(error).__name__})"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
