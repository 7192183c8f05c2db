"""Integrity: hashes of every file in the reported directory, and a signature over the report.

report.json lists the SHA-256 of every file that lay in the directory. report.sig lists the SHA-256
of report.json and of the pages drawn from it, and is signed with Ed25519 (RFC 8032) by whoever ran
the command. `verify` recomputes all of it and names every file that changed, appeared or vanished.

What it does not give: a signature says which key signed, not whose key that is, so a reader who
needs to know passes the key they expect (`--signer`). And it protects the record from the moment
the report was made; whoever makes reports could have changed the run before.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from securefed.errors import RunError
from securefed.record.inventory import InputFile, digest, files_below
from securefed.record.json_file import SCHEMA, JsonFile, Schema, decode_file
from securefed.reporting.facts import Report

REPORT, SIGNATURE = Report.NAME, "report.sig"
PAGE, PRINTOUT = PAGES = ("report.html", "report.pdf")
OWN = (REPORT, SIGNATURE, *PAGES)
# Set apart from anything else an Ed25519 key of SecureFed may sign.
DOMAIN = b"securefed report signature, schema 1\n"

Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class SignatureFile(
    JsonFile, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """report.sig. `files` maps the report's own files to their SHA-256; all is lower-case hex."""

    NAME: ClassVar[str] = SIGNATURE
    schema: Schema = SCHEMA

    algorithm: Literal["Ed25519"]
    public_key: Digest
    files: dict[str, Digest]
    signature: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}\Z")]


class ListedInputs(msgspec.Struct, frozen=True):
    """The part of report.json that verification needs."""

    inputs: list[InputFile]


def inventory(directory: Path) -> list[InputFile]:
    """Every file below a directory except the report's own and locks, by path, hashed.

    Raises:
        RunError: a symbolic link (its target is outside what is signed), or an unreadable file.
    """
    return [file for file in files_below(directory) if file.path not in OWN]


def sign(directory: Path, names: Sequence[str], key: Ed25519PrivateKey) -> bytes:
    """The content of report.sig for the report's own files `names` in a directory."""
    files = {name: digest(directory / name) for name in sorted(names)}
    signed = SignatureFile(
        algorithm="Ed25519",
        public_key=public_hex(key.public_key()),
        files=files,
        signature=key.sign(_message(files)).hex(),
    )
    return signed.encode()


def public_hex(key: Ed25519PublicKey) -> str:
    """A public key as 64 hexadecimal digits."""
    return key.public_bytes_raw().hex()


def _message(files: dict[str, str]) -> bytes:
    # Names come from OWN, which has no line breaks: a line cannot be forged.
    return DOMAIN + "".join(f"{files[name]}  {name}\n" for name in sorted(files)).encode()


def verify(directory: Path, signer: str | None) -> str:
    """Check a report and everything it covers.

    Args:
        signer: the public key that must have signed, hex; None accepts any key.

    Returns:
        The public key that signed, hex.

    Raises:
        RunError: no report, a wrong or foreign signature, or files that changed, appeared or
            vanished; the message names each of them.
    """
    if not (directory / SIGNATURE).is_file():
        raise RunError(
            f"{directory} holds no signed report (no {SIGNATURE})",
            hint=f"make one with: securefed report {directory}",
        )
    signed = SignatureFile.read(directory)
    if REPORT not in signed.files or not set(signed.files) <= set(OWN) - {SIGNATURE}:
        raise RunError(f"{directory / SIGNATURE} is damaged: it does not sign a report's files")
    if signer is not None and signed.public_key != signer:
        raise RunError(
            f"not intact: signed by {signed.public_key}, not by {signer}",
            hint="somebody else made this report, or made it anew",
        )
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signed.public_key)).verify(
            bytes.fromhex(signed.signature), _message(signed.files)
        )
    except (InvalidSignature, ValueError):
        raise RunError(
            f"not intact: the signature in {SIGNATURE} does not belong to its content",
            hint=f"{SIGNATURE} was changed; make the report again from trusted files",
        ) from None
    changes = _own_changes(directory, signed.files)
    if not any(REPORT in change for change in changes):
        changes += _input_changes(directory)
    if changes:
        raise RunError(
            "not intact:\n  " + "\n  ".join(changes),
            hint=f"if the changes are meant, make the report again: securefed report {directory}",
        )
    return signed.public_key


def _own_changes(directory: Path, files: dict[str, str]) -> list[str]:
    changes = []
    for name, expected in files.items():
        if not (directory / name).is_file():
            changes.append(f"vanished: {name}")
        elif digest(directory / name) != expected:
            changes.append(f"changed: {name}")
    # A page that nobody signed would be read as if it were.
    extra = [name for name in PAGES if name not in files and (directory / name).exists()]
    return changes + [f"appeared: {name}" for name in extra]


def _input_changes(directory: Path) -> list[str]:
    listed = decode_file(directory / REPORT, ListedInputs).inputs
    before = {file.path: file.sha256 for file in listed}
    now = {file.path: file.sha256 for file in inventory(directory)}
    return [
        *(f"changed: {path}" for path in before if path in now and now[path] != before[path]),
        *(f"vanished: {path}" for path in before if path not in now),
        *(f"appeared: {path}" for path in now if path not in before),
    ]
