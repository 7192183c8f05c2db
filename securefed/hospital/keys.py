"""A site's own key replaced, and others' keys that it does not trust any more."""

import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from protocols.identity import IdentityKey, Roster
from securefed.errors import ConfigurationError, RunError
from securefed.files import append_private
from securefed.record import lines
from securefed.record.json_file import decode

IDENTITY = "identity.pem"
REVOKED = "revoked.jsonl"
LARGEST_FILE = 2**24  # bytes
_KEY = re.compile(r"[0-9a-f]{64}")


class Revocation(msgspec.Struct, frozen=True, kw_only=True):
    """One line of revoked.jsonl: a public key in hex, why, and when, in UTC."""

    key: str
    reason: str
    at: str


def rotate(folder: Path) -> Path | None:
    """Make another identity key; gives where the old one is kept, None where it was lost.

    Raises:
        InvalidIdentity: it cannot be written.
    """
    place = folder / IDENTITY
    kept = place.with_name(f"identity-until-{datetime.now(UTC):%Y%m%dT%H%M%S}.pem")
    fresh = place.with_name("identity.new.pem")
    fresh.unlink(missing_ok=True)  # of a rotation that did not come to its end
    IdentityKey.generate().save(fresh)
    lost = not place.exists()
    if not lost:
        place.rename(kept)
    fresh.rename(place)
    return None if lost else kept


def revoke(folder: Path, key: str, reason: str) -> None:
    """Write down that agreements with a public key are refused here.

    Raises:
        ConfigurationError: no key, or no reason.
    """
    if not _KEY.fullmatch(key.lower()):
        raise ConfigurationError(
            f"{key[:70]!r} is no public key of 64 hexadecimal digits",
            hint="securefed keys roster AGREEMENT prints them",
        )
    if not reason.strip():
        raise ConfigurationError(
            "a revocation needs a reason", hint="write why, and who said so: --reason TEXT"
        )
    line = Revocation(
        key=key.lower(), reason=reason, at=datetime.now(UTC).isoformat(timespec="seconds")
    )
    with append_private(folder / REVOKED) as out:
        out.write(msgspec.json.encode(line) + b"\n")


def require_trusted(folder: Path, roster: Roster) -> None:
    """Refuse a roster that holds a key which was revoked here.

    Raises:
        RunError: it does, with who and why; or the list is damaged.
    """
    path = folder / REVOKED
    if not path.exists():
        return
    names = {key.hex(): name for name, key in roster.keys.items()}
    for number, content in enumerate(lines.read(path, LARGEST_FILE), start=1):
        revoked = decode(content, Revocation, f"{path}, line {number}")
        if revoked.key in names:
            raise RunError(
                f"the key of {names[revoked.key]} was revoked here on {revoked.at[:10]}: "
                f"{revoked.reason}",
                hint="make an agreement with its new key, or without it",
            )
