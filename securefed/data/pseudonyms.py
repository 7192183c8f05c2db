"""The secret of a site, and what follows from it: pseudonyms, sides of a split, fingerprints.

HMAC-SHA256 (RFC 2104) under a 256-bit key that is made at the site and stays there, so that the
same patient gets the same name and the same side each time, and no one else can tell who or which.
An unkeyed hash would not do: patient ids are short, and anyone could hash all of them. Whoever has
the key and a list of ids can link every pseudonym; losing it makes a later import give other names
and a later run another split. A pseudonym is not anonymity: the images themselves may identify a
person.
"""

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from securefed.errors import ConfigurationError, DataError
from securefed.files import create_private

KEY_BYTES = 32
_PSEUDONYM_HEX = 24  # 96 bits: no collision among a billion patients, with 2^-36 to spare


@dataclass(frozen=True)
class SiteKey:
    """The secret of a site; never shown, logged, or written anywhere but its own file."""

    secret: bytes = field(repr=False)

    def pseudonym(self, patient_id: str) -> str:
        """Name of a patient: "p" and 24 hexadecimal digits.

        Raises:
            DataError: the patient id is empty.
        """
        identity = patient_id.strip()
        if not identity:
            raise DataError(
                "the patient id is empty", hint="scans without PatientID cannot be grouped"
            )
        message = b"securefed patient pseudonym 1\0" + identity.encode()
        return "p" + self.digest(message).hex()[:_PSEUDONYM_HEX]

    def person(self, trace: str) -> str:
        """Who is behind an id, from what a header says of the person; "" where it says nothing."""
        return (
            "k" + self.digest(b"securefed person 1\0" + trace.encode()).hex()[:24] if trace else ""
        )

    def uniform(self, purpose: str, identity: str) -> float:
        """A number in [0, 1) that depends on the key, a purpose and an identity, on nothing else.

        Args:
            purpose: sets independent numbers of one identity apart; holds no zero byte.
        """
        message = f"securefed uniform 1\0{purpose}\0{identity}".encode()
        # 53 bits: all that a float holds.
        return (int.from_bytes(self.digest(message)[:8]) >> 11) / 2**53

    @property
    def name(self) -> str:
        """What tells this key from others, and nothing else of it: 16 hexadecimal digits."""
        return self.digest(b"securefed key name 1").hex()[:16]

    def token(self, patient_id: str) -> bytes:
        """A patient in a ledger, 16 bytes: the same in every run, and nobody's without the key."""
        return self.digest(b"securefed ledger patient 1\0" + patient_id.encode())[:16]

    def digest(self, message: bytes) -> bytes:
        """HMAC-SHA256 of a message, 32 bytes; each use begins with words of its own."""
        return hmac.digest(self.secret, message, hashlib.sha256)


# Nobody is behind a phantom, so what follows from this key is the same everywhere.
PHANTOM_KEY = SiteKey(bytes(KEY_BYTES))


def key_place(data: Path) -> Path:
    """Where the key of a data set lies: beside its folder, never in it, as import puts it there.

    Args:
        data: the folder, or a manifest in it.
    """
    return key_beside((data if data.is_dir() else data.parent).resolve())


def key_beside(folder: Path) -> Path:
    """Where the key of a data set lies whose folder may be still to make.

    Raises:
        ConfigurationError: the top of a file system has nothing beside it.
    """
    place = Path(os.path.abspath(folder))  # "." has no name
    if not place.name:
        raise ConfigurationError(f"{folder} cannot be a data set", hint="name a folder below it")
    return place.with_name(place.name + ".site-key")


def ledger_beside(key_file: Path) -> Path:
    """Where the ledger of the patients lies that a key tells apart: beside the key."""
    return _beside(key_file, ".ledger.sqlite")


def tokens_beside(key_file: Path) -> Path:
    """Where the folder of these patients' tokens lies (model.token_files): beside the key too."""
    return _beside(key_file, ".tokens")


def _beside(key_file: Path, suffix: str) -> Path:
    return key_file.with_name(key_file.name.removesuffix(".site-key") + suffix)


def load_or_create_key(path: Path) -> SiteKey:
    """Read the site key, or make one in a new file that only its owner can read (mode 0600).

    Raises:
        DataError: the file is not a key, can be read by others, or cannot be written.
    """
    try:
        # Exclusive: two imports that start together cannot both believe they made the key.
        secret = secrets.token_bytes(KEY_BYTES)
        create_private(path, f"{secret.hex()}\n".encode())
    except FileExistsError:
        return _read_key(path)
    except OSError as error:
        raise DataError(
            f"site key {path.name}: cannot be created ({error.strerror})",
            hint="name a place that this account can write to: --site-key of data import, "
            "data.site_key of a run",
        ) from None
    return SiteKey(secret)


def passing_key(path: Path) -> SiteKey:
    """The site key if there is one, else one that is written nowhere: for a look at the data."""
    return _read_key(path) if path.exists() else SiteKey(secrets.token_bytes(KEY_BYTES))


@contextmanager
def site_key(path: Path, *, begun: bool) -> Iterator[SiteKey]:
    """The key of a data set for a run; one that is made goes again if the run cannot start.

    Args:
        begun: whether the run has begun under the key, so that there must be one.

    Raises:
        DataError: as `load_or_create_key`, or the key of a run that has begun is missing.
    """
    new = not path.exists()
    if new and begun:
        raise DataError(
            f"the site key {path} is missing: nobody knows without it who trained",
            hint="bring it back, or name it in data.site_key; another one divides otherwise",
        )
    key = load_or_create_key(path)
    try:
        yield key
    except BaseException:
        if new:  # it has divided nobody yet
            path.unlink(missing_ok=True)
        raise


def _read_key(path: Path) -> SiteKey:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text("ascii").strip()
        secret = bytes.fromhex(text)
    except (OSError, ValueError):
        secret, mode = b"", 0
    if mode & 0o077:
        raise DataError(
            f"site key {path.name} can be read by others (mode {mode:o})",
            hint="chmod 600 it, and consider it known: make a new one for new studies",
        )
    if len(secret) != KEY_BYTES:
        raise DataError(
            f"site key {path.name} is not a key of {KEY_BYTES} bytes in hexadecimal",
            hint="name another file; a missing one is created",
        )
    return SiteKey(secret)
