"""`securefed data import https://...` against a real Orthanc, killed in the middle and taken up."""

import datetime
import ipaddress
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydicom.uid import PositronEmissionTomographyImageStorage

from tests.data.dicom.test_structured_labels import content, write_report
from tests.data.dicom.trees import WriteSeries, edit_all, ramp, rows
from tests.data.dicomweb.archive import PASSWORD, USER, Orthanc, before, needs_orthanc, running

pytestmark = needs_orthanc

SLICES = 4
SECRETS = {"SECUREFED_DICOMWEB_USER": USER, "SECUREFED_DICOMWEB_PASSWORD": PASSWORD}


@pytest.fixture(scope="module")
def empty_archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running(tmp_path_factory.mktemp("archive") / "orthanc") as server:
        yield server


@pytest.fixture
def archive(tmp_path: Path, empty_archive: Orthanc, write_series: WriteSeries) -> Orthanc:
    """Two patients with CT and MRI, one with an ultrasound name and no label; stored once."""
    if not (empty_archive.folder / "filled").exists():
        for patient, comment in (("PAT-1", "tumour"), ("PAT-2", "healthy"), ("PAT-10", "no")):
            study = pydicom.uid.generate_uid()
            for modality in ("CT", "MR"):
                files = write_series(
                    tmp_path / "made" / patient / modality,
                    ramp(SLICES),
                    modality,
                    PatientID=patient,
                    StudyInstanceUID=study,
                    PatientComments=comment,
                    PatientName=f"{patient}^Name",
                )
                edit_all(files, FrameOfReferenceUID=f"1.2.3.{patient[-1]}")
                empty_archive.store(files)
        (empty_archive.folder / "filled").touch()
    (tmp_path / "labels.csv").write_text("patient_id,label\nPAT-1,1\nPAT-2,0\n")
    return empty_archive


def line(address: str, out: Path, *more: object) -> list[str]:
    start = "from securefed.cli.app import main; main()"
    arguments = ["data", "import", address, "--out", out, "--size", 32, *more]
    return [sys.executable, "-c", start, *map(str, arguments)]


def run(
    address: str, tmp_path: Path, *more: object, secrets: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    more = more or ("--labels", tmp_path / "labels.csv", "--json")
    return subprocess.run(
        line(address, tmp_path / "out", *more),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment(tmp_path, SECRETS if secrets is None else secrets),
    )


def environment(tmp_path: Path, secrets: dict[str, str]) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SECUREFED_DICOMWEB")}
    return kept | {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc")} | secrets


def facts(result: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert result.returncode == 0, result.stderr + result.stdout
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_labelled_patients_are_fetched_and_imported(tmp_path: Path, archive: Orthanc) -> None:
    with before(archive) as proxy:
        found = facts(run(proxy.address, tmp_path))
    assert (found["patients"], found["problems"]) == (2, [])
    assert len(proxy.images) == 2 * 2 * SLICES  # PAT-10 has no label, and was not asked for
    assert all(line["ct_path"] and line["mri_path"] for line in rows(tmp_path / "out"))
    assert not (tmp_path / "out.fetched").exists()  # it named patients


def test_an_import_that_is_killed_is_taken_up_again(tmp_path: Path, archive: Orthanc) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def hold(number: int) -> None:
        if number == 7:
            reached.set()
            go_on.wait(60)

    with before(archive) as proxy:
        proxy.before = hold
        command = line(
            proxy.address, tmp_path / "out", "--labels", tmp_path / "labels.csv", "--json"
        )
        process = subprocess.Popen(command, env=environment(tmp_path, SECRETS))
        assert reached.wait(60)
        process.send_signal(signal.SIGKILL)
        process.wait()
        go_on.set()
        assert not (tmp_path / "out").exists()
        whole = list((tmp_path / "out.fetched" / "scans").rglob("*.dcm"))
        assert len(whole) == 6
        assert (tmp_path / "out.fetched").stat().st_mode & 0o077 == 0
        asked = list(proxy.images)
        found = facts(run(proxy.address, tmp_path))
    assert (found["patients"], found["problems"]) == (2, [])
    again = proxy.images[len(asked) :]
    assert set(again).isdisjoint(asked[:6])  # what was whole is not fetched again
    assert len(set(asked) | set(again)) == len(again) + 6 == 2 * 2 * SLICES


def test_a_server_that_dies_is_taken_up_again_when_it_is_back(
    tmp_path: Path, archive: Orthanc
) -> None:
    with before(archive) as proxy:
        proxy.before = lambda number: archive.kill() if number == 6 else None
        stopped = run(proxy.address, tmp_path)
        assert stopped.returncode == 1
        assert "cannot be reached" in stopped.stderr
        assert "hint: start again when it can" in stopped.stderr
        assert "Traceback" not in stopped.stderr
        assert not (tmp_path / "out").exists()
        archive.start()
        proxy.before = lambda number: None
        asked = len(proxy.images)
        found = facts(run(proxy.address, tmp_path))
        assert len(proxy.images) - asked == 2 * 2 * SLICES - 5
    assert found["patients"] == 2


@pytest.mark.parametrize("way", ["environment", "netrc"])
def test_credentials_come_from_the_environment_or_netrc(
    tmp_path: Path, archive: Orthanc, way: str
) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    (tmp_path / "netrc").chmod(0o600)
    facts(run(archive.address, tmp_path, secrets=SECRETS if way == "environment" else {}))


def test_without_credentials_or_with_wrong_ones_the_way_is_said(
    tmp_path: Path, archive: Orthanc
) -> None:
    for secrets in ({}, SECRETS | {"SECUREFED_DICOMWEB_PASSWORD": "other"}):
        refused = run(archive.address, tmp_path, secrets=secrets)
        assert refused.returncode == 1
        assert "it answered 401" in refused.stderr
        assert "netrc" in refused.stderr
        assert not (tmp_path / "out").exists()


def test_no_secret_is_said_or_written(
    tmp_path: Path, archive: Orthanc, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    from securefed.data.dicomweb.fetching import fetch

    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    with caplog.at_level(logging.DEBUG):
        made = fetch(archive.address, tmp_path / "f", ["PAT-1"])
    told = caplog.text + repr(made) + repr(made.client.__dict__)
    written = b"".join(path.read_bytes() for path in (tmp_path / "f").rglob("*") if path.is_file())
    assert caplog.text
    assert PASSWORD not in told
    assert PASSWORD.encode() not in written


def test_labels_may_stand_in_an_attribute(tmp_path: Path, archive: Orthanc) -> None:
    found = facts(run(archive.address, tmp_path, "--label-attribute", "PatientComments", "--json"))
    assert found["patients"] == 3
    labels = {line["patient_id"]: line["label"] for line in rows(tmp_path / "out")}
    assert sorted(labels.values()) == ["0", "0", "1"]


def test_labels_may_stand_in_structured_reports(tmp_path: Path, archive: Orthanc) -> None:
    for patient, words in (("PAT-1", "tumour"), ("PAT-2", "healthy")):
        item = content("Diagnosis of the archive", words)
        name = {"patient": patient, "PatientName": f"{patient}^Name"}
        archive.store([write_report(tmp_path / "reports" / patient, item, **name)])
    more = ("--label-report", "Diagnosis of the archive", "--json")
    result = run(archive.address, tmp_path, *more)
    found = json.loads(result.stdout)
    assert (result.returncode, found["patients"]) == (1, 2)
    (problem,) = found["problems"]
    assert "no structured report of its patient has 'Diagnosis of the archive'" in problem
    labels = {line["patient_id"]: line["label"] for line in rows(tmp_path / "out")}
    assert sorted(labels.values()) == ["0", "1"]


def test_another_modality_is_fetched_where_it_is_asked_for(
    tmp_path: Path, archive: Orthanc, write_series: WriteSeries
) -> None:
    header = {"PatientID": "PAT-30", "StudyInstanceUID": pydicom.uid.generate_uid()}
    header["SOPClassUID"] = PositronEmissionTomographyImageStorage
    archive.store(write_series(tmp_path / "pet", ramp(SLICES), "PT", **header))
    (tmp_path / "labels.csv").write_text("patient_id,label\nPAT-30,1\n")
    more = ("--labels", tmp_path / "labels.csv", "--modalities", "pet", "--json")
    assert facts(run(archive.address, tmp_path, *more))["patients"] == 1
    assert all(line["pet_path"] for line in rows(tmp_path / "out"))


def test_who_is_not_in_the_archive_is_named(tmp_path: Path, archive: Orthanc) -> None:
    (tmp_path / "labels.csv").write_text("patient_id,label\nPAT-1,1\nPAT-9,0\nPAT*,0\n")
    result = run(archive.address, tmp_path)
    found = json.loads(result.stdout)
    assert result.returncode == 1
    assert found["patients"] == 1
    assert any("2 of 3 labelled patients: 'PAT-9', 'PAT*'" in note for note in found["notes"])
    (problem,) = found["problems"]
    assert problem.startswith("'PAT*': its signs stand for other patients too")
    assert (tmp_path / "out.fetched").exists()  # to be taken up again


def test_a_certificate_is_checked(tmp_path: Path, archive: Orthanc) -> None:
    with before(archive, tls=certificate(tmp_path)) as proxy:
        refused = run(proxy.address, tmp_path)
        assert refused.returncode == 1
        assert "its certificate is not trusted" in refused.stderr
        assert "REQUESTS_CA_BUNDLE" in refused.stderr
        assert proxy.images == []
        trusted = SECRETS | {"REQUESTS_CA_BUNDLE": str(tmp_path / "authority.pem")}
        assert facts(run(proxy.address, tmp_path, secrets=trusted))["patients"] == 2


def certificate(tmp_path: Path) -> Path:
    """A key and a certificate for 127.0.0.1 in one file, and the certificate by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "archive of a test")])
    now = datetime.datetime.now(datetime.UTC)
    own = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    (tmp_path / "authority.pem").write_bytes(own)
    (tmp_path / "pair.pem").write_bytes(secret + own)
    return tmp_path / "pair.pem"
