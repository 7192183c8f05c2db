"""Whom an import asks, and what it does with answers that nobody should believe."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from securefed.data.dicomweb import address as addresses
from securefed.data.dicomweb import fetching
from securefed.data.dicomweb.address import require_address, session_for
from securefed.data.dicomweb.fetching import fetch
from securefed.errors import ConfigurationError, DataError

SERVICE = "https://pacs.example/dicom-web"


@pytest.mark.parametrize(
    "address",
    [SERVICE, "http://127.0.0.1:8042/dicom-web", "http://[::1]/x", "http://localhost:8042/"],
)
def test_https_and_this_machine_are_asked(address: str) -> None:
    assert require_address(address) == address.rstrip("/")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://pacs.example/dicom-web", "over plain http anybody on the way reads"),
        ("http://127.0.0.1.example/", "over plain http"),
        ("http://10.0.0.7/", "over plain http"),
        ("https://reader:secret@pacs.example/", "holds credentials"),
        ("https://secret@pacs.example/", "holds credentials"),
        ("ftp://pacs.example/", "no address of a DICOMweb service"),
        ("https:///dicom-web", "no address"),
        ("https://pacs.example/?token=secret", "no address"),
    ],
)
def test_other_addresses_are_refused(address: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        require_address(address)
    assert "reader" not in str(caught.value)


def test_a_token_is_sent_and_never_shown() -> None:
    session = session_for(SERVICE, {"SECUREFED_DICOMWEB_TOKEN": "loud-secret"})
    prepared = session.prepare_request(requests.Request("GET", SERVICE))
    assert prepared.headers["Authorization"] == "Bearer loud-secret"
    assert "loud-secret" not in repr(session.auth)


def test_a_user_without_a_password_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="go together"):
        session_for(SERVICE, {"SECUREFED_DICOMWEB_USER": "reader"})


def test_a_proxy_of_the_environment_never_sees_what_goes_to_this_machine() -> None:
    assert not session_for("http://127.0.0.1:1", {}).trust_env
    assert session_for(SERVICE, {}).trust_env


@contextmanager
def answering(status: int, body: bytes, **head: str) -> Iterator[str]:
    """A service that says the same to everybody."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in head.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the screen."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "head", "words"),
    [
        (200, b"<html>", {}, "no answer that can be read"),
        (200, b"[]" * 10, {"Content-Type": "application/dicom+json"}, "no answer that can be read"),
        (200, b'[{"00100020": 3}]', {}, "no answer that can be read"),
        (404, b"", {}, "it answered 404"),
        (
            302,
            b"",
            {"Location": "http://127.0.0.1:1/"},
            "it sends us elsewhere, which is not followed",
        ),
        (200, b" " * 70_000, {}, "more than any scan has"),
    ],
)
def test_what_is_no_answer_is_refused_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: bytes,
    head: dict[str, str],
    words: str,
) -> None:
    monkeypatch.setattr(addresses, "LARGEST_ANSWER", 60_000)
    with answering(status, body, **head) as address, pytest.raises(DataError, match=words) as said:
        fetch(address, tmp_path / "f", ["PAT-1"])
    assert "\n" not in str(said.value)
    assert said.value.hint


class Liar:
    """A client of a service that gives what it likes; one study, one series, two images."""

    def __init__(self, **lies: Any) -> None:
        self.lies = lies

    def search_for_studies(self, **asked: Any) -> list[Any]:
        return [found(PatientID=who, StudyInstanceUID="1.1") for who in self.lies["patients"]]

    def search_for_series(self, study: str, **asked: Any) -> list[Any]:
        uid = self.lies.get("series", "1.2")
        return [found(Modality=kind, SeriesInstanceUID=uid) for kind in ("US", "CT")]

    def search_for_instances(self, study: str, series: str, **asked: Any) -> list[Any]:
        return [found(SOPInstanceUID=uid) for uid in ("1.3", "1.4")]

    def retrieve_instance(self, study: str, series: str, image: str) -> Dataset:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, image
        dataset.PatientID = "PAT-1"
        for keyword, value in self.lies.get(image, {}).items():
            setattr(dataset, keyword, value)
        return dataset

    def set_http_retry_params(self, retry: bool) -> None:
        """As the client has it."""


def found(**values: str) -> dict[str, Any]:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset.to_json_dict()


def asked_of(liar: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fetching.Archive:
    monkeypatch.setattr(fetching, "DICOMwebClient", lambda *parts, **options: liar)
    return fetch(SERVICE, tmp_path / "f", ["PAT-1"])


def files(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "f").rglob("*.dcm"))


def test_a_patient_who_was_not_asked_for_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_of(Liar(patients=["PAT-10", "pat-1", ""]), tmp_path, monkeypatch)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"PatientID": "PAT-2"}, "an image of another patient"),
        ({"SOPInstanceUID": "1.5"}, "another image"),
        ({"file_meta": FileMetaDataset()}, "no answer that can be read"),
    ],
)
def test_an_image_that_is_another_is_not_kept_and_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: dict[str, Any], words: str
) -> None:
    liar = Liar(patients=["PAT-1"], **{"1.4": lie})
    (problem,) = asked_of(liar, tmp_path, monkeypatch).problems
    assert words in problem.reason
    assert len(files(tmp_path)) == 1
    assert asked_of(Liar(patients=["PAT-1"]), tmp_path, monkeypatch).problems == []
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("uid", ["", "../../etc", "1.2/instances", "1" * 65])
def test_a_uid_that_is_none_never_becomes_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: str
) -> None:
    with pytest.raises(DataError, match="names no SeriesInstanceUID"):
        asked_of(Liar(patients=["PAT-1"], series=uid), tmp_path, monkeypatch)
    assert files(tmp_path) == []


def test_a_folder_that_holds_something_else_is_neither_fetched_into_nor_removed(
    tmp_path: Path,
) -> None:
    mine = tmp_path / "mine.fetched"
    (mine / "scans").mkdir(parents=True)
    (mine / "scans" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="holds something else"):
        fetch(SERVICE, mine, ["p"])
    (tmp_path / "link").symlink_to(mine)
    with pytest.raises(DataError, match="no folder"):
        fetch(SERVICE, tmp_path / "link", ["p"])
    assert (mine / "scans" / "thesis.txt").read_text() == "years of work"
