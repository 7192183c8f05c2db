"""What travels for a certificate: a hospital's request and the approval that comes back.

Both are read here before FLARE's tools see them, so that what people most often get wrong is
refused in our words: another file, another hospital's, another authority's. What the tools check
besides (signatures, digests of each part) they check all the same.
"""

import string
import zipfile
from pathlib import Path
from typing import TypeVar

import msgspec

from securefed.errors import ConfigurationError

LARGEST_PART = 2**16  # bytes
FINGERPRINT_DIGITS = 64  # of a SHA-256
ROOT = "rootCA.pem"


class Request(msgspec.Struct):
    """What a request asks for, and the digest of the public key in it."""

    name: str
    kind: str
    cert_type: str
    cert_role: str | None
    public_key_sha256: str


class _Hashes(msgspec.Struct):
    public_key_sha256: str


class Approval(msgspec.Struct):
    """What was signed: whose certificate, for which public key."""

    name: str
    hashes: _Hashes


Paper = TypeVar("Paper", Request, Approval)


def read_request(path: Path) -> Request:
    """A hospital's request.

    Raises:
        ConfigurationError: it is none.
    """
    hint = "give the file that securefed deploy request made at the hospital"
    return _read(path, "request.json", Request, "request", hint)


def require_approval(path: Path, request: Path, site: str, fingerprint: str) -> str:
    """Refuse an approval that is not for the request that was made here.

    Returns:
        The fingerprint, in the form that FLARE's tools take.

    Args:
        site: the hospital's name.
        fingerprint: of the authority, as its people read it out.

    Raises:
        ConfigurationError: no approval, or of another hospital, authority or request.
    """
    hint = "give the file that securefed deploy approve made at the server"
    approval = _read(path, "signed.json", Approval, "approval", hint)
    digits = _digits(fingerprint)
    if len(digits) != FINGERPRINT_DIGITS or set(digits) - set(string.hexdigits):
        raise ConfigurationError(
            f"the fingerprint {fingerprint[:100]} is not of {FINGERPRINT_DIGITS} hexadecimal "
            "digits",
            hint="type all of it, as the server's people read it out: 15:E3:...",
        )
    try:
        found = _digest(_part(path, ROOT, "approval", hint))
    except ValueError:
        raise ConfigurationError(f"{path} is no approval", hint=hint) from None
    if digits != _digits(found):
        # Which one it has is not said: who copies it from here has compared nothing.
        raise ConfigurationError(
            f"{path} was signed by an authority with another fingerprint",
            hint="type it as it was read out to you; if you did, do not install the file, and ask "
            "the server's people, by another way than it came by",
        )
    if approval.name != site:
        raise ConfigurationError(
            f"{path} was signed for {approval.name}, not for {site}",
            hint=f"ask the server's people for that of {site}",
        )
    if approval.hashes.public_key_sha256 != read_request(request).public_key_sha256:
        raise ConfigurationError(
            f"{path} was signed for another key than that of {request}",
            hint=f"send {request} to the server's people: it is the newest request",
        )
    return found


def fingerprint_of(certificate: Path) -> str:
    """SHA-256 of an authority's certificate, as people compare it."""
    return _digest(certificate.read_bytes())


def _digits(fingerprint: str) -> str:
    return fingerprint.upper().removeprefix("SHA256:").replace(":", "").replace(" ", "")


def _digest(certificate: bytes) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    return x509.load_pem_x509_certificate(certificate).fingerprint(SHA256()).hex(":").upper()


def _read(path: Path, part: str, kind: type[Paper], what: str, hint: str) -> Paper:
    try:
        return msgspec.json.decode(_part(path, part, what, hint), type=kind)
    except (msgspec.DecodeError, ValueError):
        raise ConfigurationError(f"{path} is no {what}", hint=hint) from None


def _part(path: Path, part: str, what: str, hint: str) -> bytes:
    """A part of an archive, cut off where it is longer than any should be."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(part) as content:
            return content.read(LARGEST_PART)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", hint=hint) from None
    except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        raise ConfigurationError(f"{path} is no {what}", hint=hint) from None
