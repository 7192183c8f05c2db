"""Requests and approvals as people mistake them: refused in our words, before FLARE's tools run."""

import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from securefed.engine.flare import papers
from securefed.errors import ConfigurationError

KEY = "ab" * 32


def certificate(seed: int) -> bytes:
    """Of an authority, in PEM."""
    key = Ed25519PrivateKey.from_private_bytes(bytes([seed] * 32))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(seed)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, None)
    )
    return made.public_bytes(Encoding.PEM)


def archive(path: Path, **parts: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        for name, content in parts.items():
            out.writestr(name.replace("_", "."), content)
    return path


def request(folder: Path, name: str = "north", key: str = KEY) -> Path:
    asked = {
        "name": name,
        "kind": "site",
        "cert_type": "client",
        "cert_role": None,
        "public_key_sha256": key,
    }
    return archive(folder / f"{name}.request.zip", request_json=json.dumps(asked).encode())


def approval(folder: Path, name: str = "north", key: str = KEY, authority: int = 1) -> Path:
    signed = {"name": name, "hashes": {"public_key_sha256": key}}
    return archive(
        folder / "north.signed.zip",
        signed_json=json.dumps(signed).encode(),
        rootCA_pem=certificate(authority),
    )


@pytest.fixture
def fingerprint(tmp_path: Path) -> str:
    (tmp_path / "root.pem").write_bytes(certificate(1))
    return papers.fingerprint_of(tmp_path / "root.pem")


def test_a_fingerprint_is_the_same_however_it_is_typed(tmp_path: Path, fingerprint: str) -> None:
    asked, signed = request(tmp_path), approval(tmp_path)
    plain = fingerprint.replace(":", "")
    for typed in (fingerprint, fingerprint.lower(), plain, f"SHA256:{fingerprint}"):
        assert papers.require_approval(signed, asked, "north", typed) == fingerprint


def test_an_approval_by_another_authority_is_refused_and_its_fingerprint_not_told(
    tmp_path: Path, fingerprint: str
) -> None:
    asked, signed = request(tmp_path), approval(tmp_path, authority=2)
    with pytest.raises(ConfigurationError, match="another fingerprint") as refused:
        papers.require_approval(signed, asked, "north", fingerprint)
    (tmp_path / "root.pem").write_bytes(certificate(2))
    assert papers.fingerprint_of(tmp_path / "root.pem") not in (
        f"{refused.value} {refused.value.hint}"
    )
    for short in ("12:34", "", fingerprint[:-2], fingerprint + ":00", "X" + fingerprint[1:]):
        with pytest.raises(ConfigurationError, match="64 hexadecimal"):
            papers.require_approval(signed, asked, "north", short)


def test_an_approval_of_another_hospital_or_request_is_refused(
    tmp_path: Path, fingerprint: str
) -> None:
    asked = request(tmp_path)
    with pytest.raises(ConfigurationError, match="signed for south, not for north"):
        papers.require_approval(approval(tmp_path, "south"), asked, "north", fingerprint)
    with pytest.raises(ConfigurationError, match="another key than that of"):
        papers.require_approval(approval(tmp_path, key="cd" * 32), asked, "north", fingerprint)


def test_another_file_is_neither(tmp_path: Path, fingerprint: str) -> None:
    asked = request(tmp_path)
    (tmp_path / "text").write_text("no archive")
    wrong = [
        tmp_path / "text",
        tmp_path / "nothing",
        tmp_path,
        archive(tmp_path / "empty.zip"),
        archive(tmp_path / "other.zip", signed_json=b"[]", request_json=b"{}"),
        archive(tmp_path / "text.zip", signed_json=b"\xff", request_json=b"\xff"),
    ]
    for path in wrong:
        with pytest.raises(ConfigurationError, match=r"is no request|cannot read") as refused:
            papers.read_request(path)
        assert "deploy request" in str(refused.value.hint)
        with pytest.raises(ConfigurationError, match=r"is no approval|cannot read") as refused:
            papers.require_approval(path, asked, "north", fingerprint)
        assert "deploy approve" in str(refused.value.hint)


def test_an_approval_whose_authority_is_no_certificate_is_refused(
    tmp_path: Path, fingerprint: str
) -> None:
    signed = archive(
        tmp_path / "a.zip",
        signed_json=json.dumps({"name": "north", "hashes": {"public_key_sha256": KEY}}).encode(),
        rootCA_pem=b"no certificate",
    )
    with pytest.raises(ConfigurationError, match="is no approval"):
        papers.require_approval(signed, request(tmp_path), "north", fingerprint)
