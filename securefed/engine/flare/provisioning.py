"""Certificates for a federation's connections, with FLARE's own tools.

Every private key is made where it belongs. A request with the public half travels to who keeps the
authority, the approval travels back, and the fingerprint of the authority is compared by people.
What this protects is the connection. That a hospital is who it says it is for the secure sum is
shown by the identity key in the agreement, whatever these certificates say.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import yaml

from securefed.engine.flare import places
from securefed.errors import ConfigurationError, RunError
from securefed.files import write_atomically

PROJECT = "securefed"
LEAD = "lead@securefed.local"
LARGEST_REQUEST = 2**16  # bytes
MOST_TOLD = 500  # characters of what nvflare says
_PROFILE = "profile.yaml"
_ROOT, _FINGERPRINT = "rootCA.pem", "fingerprint.txt"


def make_authority(folder: Path, host: str, port: int) -> str:
    """Make a server's authority, and the kits of the server and of its lead.

    Args:
        folder: of the server.
        host: name under which hospitals reach it; it stands in the server's certificate.

    Returns:
        The authority's fingerprint, which every hospital compares.

    Raises:
        ConfigurationError: there is one already, or a name that no certificate can have.
        RunError: FLARE's tools failed.
    """
    places.require_engine()
    places.require_path(folder)
    place = places.authority(folder)
    if place.exists():
        raise ConfigurationError(
            f"{folder} has an authority already", hint="another one would lock everybody out"
        )
    place.parent.mkdir(mode=0o700, exist_ok=True)
    profile = {
        "name": PROJECT,
        "scheme": "grpc",
        "connection_security": "mtls",
        "server": {"host": host, "fed_learn_port": port, "admin_port": port},
    }
    place.mkdir(mode=0o700)
    write_atomically(place / _PROFILE, yaml.safe_dump(profile, sort_keys=False).encode())
    # Without an organisation: with one, certificates name an issuer that does not exist.
    _flare(folder, "cert", "init", "--profile", place / _PROFILE, "-o", place / "keys")
    server: dict[str, object] = {
        "name": host,
        "type": "server",
        "org": PROJECT,
        "fed_learn_port": port,
    }
    lead = {"name": LEAD, "type": "admin", "org": PROJECT, "role": "lead"}
    for participant, kit in ((server, places.kit(folder)), (lead, places.lead(folder))):
        asked = folder / "engine" / f"request-{kit.name}"
        signed = _sign(folder, _request(folder, participant, asked))
        _package(folder, signed, asked, kit, fingerprint(folder))
        shutil.rmtree(asked)
        signed.unlink()
    return fingerprint(folder)


def fingerprint(folder: Path) -> str:
    """SHA-256 of the certificate of a server's authority, as people compare it."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    content = (places.authority(folder) / "keys" / _ROOT).read_bytes()
    digest = x509.load_pem_x509_certificate(content).fingerprint(SHA256())
    return digest.hex(":").upper()


def request_certificate(folder: Path, name: str) -> Path:
    """Make a site's key, and the request to send to who keeps the authority.

    Returns:
        The request's file; nothing in it is private.

    Raises:
        ConfigurationError: there is one already.
        RunError: FLARE's tools failed.
    """
    places.require_engine()
    places.require_path(folder)
    place = places.request(folder)
    if place.exists():
        raise ConfigurationError(
            f"{folder} has made a request already ({place})",
            hint="send that one, or remove the folder for a new key",
        )
    place.parent.mkdir(mode=0o700, exist_ok=True)
    return _request(folder, {"name": name, "type": "client"}, place)


@dataclass(frozen=True)
class Approval:
    """What was signed: for whom, the digest of the public key in it, and the file to send back."""

    name: str
    key: str
    file: Path


def approve(folder: Path, request: Path, hospitals: Collection[str]) -> Approval:
    """Sign a hospital's request with a server's authority.

    Nothing but a hospital's: with a server's or a lead's certificate one could play the server to
    others, or have it run jobs.

    Args:
        hospitals: names in the agreement; nobody else needs a certificate.

    Raises:
        ConfigurationError: there is no authority, or this is no request of one of these hospitals.
        RunError: FLARE's tools failed.
    """
    places.require_engine()
    if not places.authority(folder).exists():
        raise ConfigurationError(
            f"{folder} has no authority", hint="securefed deploy server makes one"
        )
    asked = _asked(request)
    if (asked.kind, asked.cert_type, asked.cert_role) != ("site", "client", None):
        raise ConfigurationError(
            f"{request} asks for a certificate of a {asked.cert_role or asked.cert_type}, which no "
            "hospital needs",
            hint="do not sign it, and ask who sent it",
        )
    if asked.name not in hospitals:
        raise ConfigurationError(
            f"{request} is of {asked.name}, which is not in the agreement",
            hint=f"hospitals there: {', '.join(sorted(hospitals))}",
        )
    return Approval(asked.name, asked.public_key_sha256, _sign(folder, request))


class _Asked(msgspec.Struct):
    """What is in a request of FLARE's."""

    name: str
    kind: str
    cert_type: str
    cert_role: str | None
    public_key_sha256: str


def _asked(request: Path) -> _Asked:
    hint = "give the file that securefed deploy request made at the hospital"
    try:
        with zipfile.ZipFile(request) as archive, archive.open("request.json") as content:
            return msgspec.json.decode(content.read(LARGEST_REQUEST), type=_Asked)
    except (OSError, KeyError, zipfile.BadZipFile, msgspec.DecodeError, ValueError) as error:
        raise ConfigurationError(f"{request} is no request: {error}", hint=hint) from None


def _sign(folder: Path, request: Path) -> Path:
    place = places.authority(folder)
    approved = folder / "engine" / "approved"
    approved.mkdir(mode=0o700, exist_ok=True)
    out = approved / f"{request.name.removesuffix('.request.zip')}.signed.zip"
    if out.exists():
        raise ConfigurationError(
            f"{request.name} was approved before: {out}", hint="send that one back"
        )
    _flare(
        folder, "cert", "approve", request, "-c", place / "keys",
        "--profile", place / _PROFILE, "--out", out,
    )  # fmt: skip
    return out


def install(folder: Path, signed: Path, authority_fingerprint: str) -> Path:
    """Make a site's kit from an approval.

    Args:
        authority_fingerprint: as the server's people read it out.

    Raises:
        ConfigurationError: no request was made here, there is a kit already, or no such approval.
        RunError: the approval is of another authority or another request.
    """
    places.require_engine()
    if not places.request(folder).exists():
        raise ConfigurationError(
            f"{folder} has made no request", hint="securefed deploy request makes one"
        )
    if places.kit(folder).exists():
        raise ConfigurationError(f"{folder} has a kit already ({places.kit(folder)})")
    if not signed.is_file():
        raise ConfigurationError(f"there is no approval at {signed}")
    _package(folder, signed, places.request(folder), places.kit(folder), authority_fingerprint)
    return places.kit(folder)


def _request(folder: Path, participant: Mapping[str, object], place: Path) -> Path:
    about = place.with_name(f"{place.name}.yaml")
    content = {"name": PROJECT, "participants": [{**participant, "org": PROJECT}]}
    write_atomically(about, yaml.safe_dump(content, sort_keys=False).encode())
    try:
        _flare(folder, "cert", "request", "-p", about, "--out", place)
    finally:
        about.unlink()
    (found,) = place.glob("*.request.zip")
    return found


def _package(folder: Path, signed: Path, asked: Path, kit: Path, fingerprint_: str) -> None:
    work = folder / "engine" / "package"
    try:
        _flare(
            folder, "package", signed, "--fingerprint", f"SHA256:{fingerprint_}",
            "--request-dir", asked, "-w", work,
        )  # fmt: skip
        (made,) = work.glob(f"{PROJECT}/prod_*/*")
        made.replace(kit)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    kit.chmod(0o700)


def _flare(folder: Path, *arguments: object) -> None:
    """One call of FLARE's command line, which keeps its own log below the folder."""
    home = folder / "engine" / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    done = subprocess.run(  # noqa: S603  # our own interpreter, arguments as a list
        [sys.executable, "-m", "nvflare.cli", *map(str, arguments)],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        told = " ".join((done.stderr or done.stdout).split()) or "no reason given"
        raise RunError(
            f"nvflare {arguments[0]} {arguments[1]} failed: {told[:MOST_TOLD]}",
            hint="nothing was changed; the words are nvflare's",
        )
