"""Signed reports: intact, or exactly what changed, and by which key."""

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from securefed.errors import ConfigurationError, RunError
from securefed.reporting.facts import Report
from securefed.reporting.integrity import inventory, public_hex, sign, verify
from securefed.reporting.signing_key import load_or_create, signer_of

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
SIGNER = public_hex(KEY.public_key())


@pytest.fixture
def signed(audited: Path, report: Report, tmp_path: Path) -> Path:
    """The audited run with a signed report."""
    folder = Path(shutil.copytree(audited, tmp_path / "run"))
    (folder / "report.json").write_bytes(msgspec.json.encode(report))
    (folder / "report.html").write_text("<p>page</p>")
    (folder / "report.sig").write_bytes(sign(folder, ["report.json", "report.html"], KEY))
    return folder


def test_an_untouched_directory_is_intact_and_names_its_signer(signed: Path) -> None:
    assert verify(signed, None) == SIGNER
    assert verify(signed, SIGNER) == SIGNER


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda d: append(d / "summary.json"), "changed: summary.json"),
        (lambda d: append(d / "exposures" / "messages.bin"), "changed: exposures/messages.bin"),
        (lambda d: (d / "audit.json").unlink(), "vanished: audit.json"),
        (lambda d: (d / "extra.txt").write_text(""), "appeared: extra.txt"),
        (lambda d: append(d / "report.html"), "changed: report.html"),
        (lambda d: (d / "report.html").unlink(), "vanished: report.html"),
        (lambda d: append(d / "report.json"), "changed: report.json"),
        (lambda d: (d / "report.json").unlink(), "vanished: report.json"),
        (lambda d: (d / "report.pdf").write_bytes(b"%PDF"), "appeared: report.pdf"),
    ],
)
def test_whatever_changed_is_named_and_nothing_else(
    signed: Path, damage: Callable[[Path], object], told: str
) -> None:
    damage(signed)
    with pytest.raises(RunError) as refused:
        verify(signed, None)
    assert str(refused.value) == f"not intact:\n  {told}"
    assert refused.value.exit_code == 1


def test_several_changes_are_all_named(signed: Path) -> None:
    append(signed / "run.json")
    (signed / "hospitals" / "hospital-1" / "new").write_text("")
    with pytest.raises(RunError) as refused:
        verify(signed, None)
    assert str(refused.value).splitlines()[1:] == [
        "  changed: run.json",
        "  appeared: hospitals/hospital-1/new",
    ]


def test_a_page_forged_along_with_its_hash_breaks_the_signature(signed: Path) -> None:
    (signed / "report.html").write_text("<p>all is well</p>")
    forged = json.loads(sign(signed, ["report.json", "report.html"], OTHER))
    original = json.loads((signed / "report.sig").read_text())
    forged.update(public_key=original["public_key"], signature=original["signature"])
    (signed / "report.sig").write_text(json.dumps(forged))
    with pytest.raises(RunError, match="does not belong to its content"):
        verify(signed, None)


def test_a_report_made_anew_by_somebody_else_passes_only_without_a_pinned_key(signed: Path) -> None:
    (signed / "report.sig").write_bytes(sign(signed, ["report.json", "report.html"], OTHER))
    assert verify(signed, None) == public_hex(OTHER.public_key())
    with pytest.raises(RunError, match=f"not by {SIGNER}"):
        verify(signed, SIGNER)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"schema": 1, "algorithm": "none", "files": {}}']
)
def test_a_damaged_signature_file_is_refused(signed: Path, content: str) -> None:
    (signed / "report.sig").write_text(content)
    with pytest.raises(RunError, match=r"report\.sig is damaged"):
        verify(signed, None)


def test_a_signature_cannot_leave_the_report_out_or_name_other_files(signed: Path) -> None:
    (signed / "report.sig").write_bytes(sign(signed, ["report.html"], KEY))
    with pytest.raises(RunError, match="does not sign a report"):
        verify(signed, None)
    (signed / "report.sig").write_bytes(sign(signed, ["report.json", "run.json"], KEY))
    with pytest.raises(RunError, match="does not sign a report"):
        verify(signed, None)


def test_an_unsigned_directory_is_refused_with_the_way_on(audited: Path) -> None:
    with pytest.raises(RunError, match="no signed report") as refused:
        verify(audited, None)
    assert "securefed report" in str(refused.value.hint)


def test_the_inventory_holds_every_file_but_the_reports_own(signed: Path) -> None:
    paths = {file.path for file in inventory(signed)}
    real = {p.relative_to(signed).as_posix() for p in signed.rglob("*") if p.is_file()}
    assert paths == real - {"report.json", "report.html", "report.sig"}


# The key


def test_a_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "config" / "key.pem"
    first, made = load_or_create(path, create=True)
    assert made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again, made = load_or_create(path, create=True)
    assert not made
    assert public_hex(again.public_key()) == public_hex(first.public_key())


def test_a_key_that_is_not_there_is_made_only_where_that_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no key .*kye\.pem") as refused:
        load_or_create(tmp_path / "kye.pem", create=False)
    assert "--new-key" in str(refused.value.hint)
    assert not list(tmp_path.iterdir())


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    load_or_create(path, create=True)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match=r"used by others \(mode 640\)"):
        load_or_create(path, create=True)


def test_a_key_is_not_made_through_a_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "key.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="cannot make the key"):
        load_or_create(tmp_path / "key.pem", create=True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no key",
        X25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
    ],
)
def test_a_file_without_an_ed25519_key_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="no unencrypted Ed25519 private key"):
        load_or_create(path, create=True)
    assert path.read_bytes() == content


def test_a_signer_is_hexadecimal_or_a_pem_file(tmp_path: Path) -> None:
    path = tmp_path / "signer.pem"
    path.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert signer_of(SIGNER.upper()) == signer_of(os.fspath(path)) == SIGNER


@pytest.mark.parametrize("text", [SIGNER[:-1], SIGNER + "0", "nobody", "/"])
def test_anything_else_is_no_signer(text: str) -> None:
    with pytest.raises(ConfigurationError, match="neither 64 hexadecimal digits nor"):
        signer_of(text)
