"""Certificates for a federation's connections, with FLARE's own tools.

Every private key is made where it belongs. A request with the public half travels to who keeps the
authority, the approval travels back, and the fingerprint of the authority is compared by people.
What this protects is the connection. That a hospital is who it says it is for the secure sum is
shown by the identity key in the agreement, whatever these certificates say.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from securefed.engine.flare import papers, places
from securefed.errors import ConfigurationError, RunError
from securefed.files import write_atomically

PROJECT = "securefed"
LEAD = "lead@securefed.local"
WORDS = "nvflare.log"  # what its tools said of what they could not do
_PROFILE = "profile.yaml"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


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
    if not _HOST.fullmatch(host):
        raise ConfigurationError(
            f"--host {host[:100]!r} is no name or address of a machine, of 64 signs at most",
            hint="such as fl.example.org, without https:// and without a port",
        )
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
        signed = _sign(folder, _request(folder, participant, asked), kit.name)
        _package(folder, signed, asked, kit, fingerprint(folder))
        shutil.rmtree(asked)
        signed.unlink()
    return fingerprint(folder)


def fingerprint(folder: Path) -> str:
    """SHA-256 of the certificate of a server's authority, as people compare it."""
    return papers.fingerprint_of(places.authority(folder) / "keys" / papers.ROOT)


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
            hint=f"send {place}/{name}.request.zip; for a new key remove {place} and "
            f"{places.kit(folder)}",
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
    asked = papers.read_request(request)
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
    if (before := _approved(folder, asked.name)).exists():
        raise ConfigurationError(
            f"{asked.name} was approved before: {before}",
            hint="send that file back; for a new key of that hospital remove it first",
        )
    return Approval(asked.name, asked.public_key_sha256, _sign(folder, request, asked.name))


def _approved(folder: Path, name: str) -> Path:
    return folder / "engine" / "approved" / f"{name}.signed.zip"


def _sign(folder: Path, request: Path, name: str) -> Path:
    place, out = places.authority(folder), _approved(folder, name)
    out.parent.mkdir(mode=0o700, exist_ok=True)
    _flare(
        folder, "cert", "approve", request, "-c", place / "keys",
        "--profile", place / _PROFILE, "--out", out,
    )  # fmt: skip
    return out


def install(folder: Path, site: str, signed: Path, authority_fingerprint: str) -> Path:
    """Make a site's kit from an approval.

    Args:
        site: its name.
        authority_fingerprint: as the server's people read it out.

    Raises:
        ConfigurationError: no request was made here, there is a kit already, no such approval, or
            one of another hospital, authority or request.
        RunError: FLARE's tools failed.
    """
    places.require_engine()
    asked, kit = places.request(folder), places.kit(folder)
    if not asked.exists():
        raise ConfigurationError(
            f"{folder} has made no request", hint="securefed deploy request makes one"
        )
    if kit.exists():
        raise ConfigurationError(
            f"{folder} has a kit already ({kit})",
            hint=f"it can connect; for another server, or a new key, remove {kit} first",
        )
    request = asked / f"{site}.request.zip"
    compared = papers.require_approval(signed, request, site, authority_fingerprint)
    _package(folder, signed, asked, kit, compared)
    return kit


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
            folder, "package", signed, "--fingerprint", fingerprint_,
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
        words = folder.parent / f"{folder.name}-{WORDS}"  # the folder may be about to go again
        write_atomically(words, (done.stdout + done.stderr).encode())
        raise RunError(
            f"the engine's tools could not do it (nvflare {arguments[0]})",
            hint=f"{words} has their words; nothing was changed",
        )
