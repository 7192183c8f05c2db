"""Long-lived identities: an Ed25519 key per hospital (RFC 8032), pinned by all in a roster.

The roster is what stops the server from swapping keys: every ephemeral key is signed by an
identity, and every hospital checks the signature against the public keys it pinned before the
job began. How rosters are compared (a phone call, a signed document) is up to the hospitals;
`Roster.fingerprint` is the one line to compare. It does not protect a stolen key file: the PEM
is not encrypted, only readable by its owner.
"""

import base64
import binascii
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocols.errors import BadSignature, InvalidIdentity, UnknownSender
from protocols.transcript import digest

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
MAX_MEMBERS = 65_535
MAX_ROSTER_FILE_BYTES = 16 * 2**20
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


_FIELD = 2**255 - 19
# y of the eight points whose order divides the cofactor (Ed25519's y is all but the topmost bit).
_Y_OF_ORDER_8 = int("7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7", 16)
_SMALL_ORDER_Y = {0, 1, _FIELD - 1, _Y_OF_ORDER_8, _FIELD - _Y_OF_ORDER_8}


def _is_safe(key: bytes) -> bool:
    """Whether an Ed25519 public key is in its one encoding and of large order.

    Under a key of small order one signature verifies for many messages (Chalkias, Garillot and
    Nikolaenko, "Taming the many EdDSAs", SSR 2020); a second encoding would put one hospital into
    the roster twice.
    """
    y = int.from_bytes(key, "little") & (2**255 - 1)
    return y < _FIELD and y not in _SMALL_ORDER_Y


class IdentityKey:
    """An Ed25519 private key. Never printed; saved only as an owner-readable PEM file."""

    __slots__ = ("_private", "public")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public: bytes = private.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"IdentityKey(public={self.public.hex()})"

    @classmethod
    def generate(cls) -> "IdentityKey":
        """A fresh key from the operating system's generator."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> "IdentityKey":
        """The key of a 32-byte seed (RFC 8032, section 5.1.5). For test vectors.

        Raises:
            InvalidIdentity: unless the seed has 32 bytes.
        """
        if len(seed) != 32:
            raise InvalidIdentity(f"an Ed25519 seed has 32 bytes, got {len(seed)}")
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    def sign(self, message: bytes) -> bytes:
        """A 64-byte signature; deterministic (RFC 8032)."""
        return self._private.sign(message)

    def save(self, path: Path) -> None:
        """Write the key as PKCS #8 PEM with mode 0600; never overwrites a file.

        Raises:
            InvalidIdentity: if the file exists or cannot be written.
        """
        pem = self._private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        try:
            # Created with its mode, not chmod-ed afterwards: it is never readable by others.
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
                f.write(pem)
        except OSError as error:
            raise InvalidIdentity(
                f"cannot write the identity key {path}: {error.strerror}",
                hint="an existing key is never overwritten; move it away first",
            ) from error

    @classmethod
    def load(cls, path: Path) -> "IdentityKey":
        """Read a PEM file written by `save`.

        Raises:
            InvalidIdentity: if it is unreadable, readable by others, or no Ed25519 key.
        """
        try:
            with path.open("rb") as f:
                mode = stat.S_IMODE(os.fstat(f.fileno()).st_mode)
                pem = f.read(65_536)
        except OSError as error:
            raise InvalidIdentity(
                f"cannot read the identity key {path}: {error.strerror}"
            ) from error
        if os.name == "posix" and mode & 0o077:
            raise InvalidIdentity(
                f"the identity key {path} is open to other users (mode {mode:04o})",
                hint="run chmod 600 on it, and replace the key if others had access",
            )
        try:
            private = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise InvalidIdentity(f"{path} holds no unencrypted PEM private key") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise InvalidIdentity(f"{path} holds another kind of key than Ed25519")
        return cls(private)


class _RosterFile(msgspec.Struct, forbid_unknown_fields=True):
    schema: int
    clients: dict[str, str]


@dataclass(frozen=True, slots=True)
class Roster:
    """Who may take part in a job: each client's name and Ed25519 public key (32 bytes).

    Attributes:
        names: all of them, sorted.
        fingerprint: SHA-256 over all names and keys, in hexadecimal: the line that hospitals
            compare.

    Raises:
        InvalidIdentity: for an empty roster, a bad name, a bad key, or one key under two names.
    """

    keys: Mapping[str, bytes]
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.keys) <= MAX_MEMBERS:
            raise InvalidIdentity(f"a roster has 1 to {MAX_MEMBERS} clients, got {len(self.keys)}")
        for name, key in self.keys.items():
            if not NAME.fullmatch(name):
                raise InvalidIdentity(
                    f"client name {name!r} is not allowed",
                    hint="use 1 to 64 letters, digits, '.', '_' or '-', starting with a letter"
                    " or digit",
                )
            if len(key) != PUBLIC_KEY_BYTES:
                raise InvalidIdentity(f"the public key of {name} has {len(key)} bytes, not 32")
            if not _is_safe(key):
                raise InvalidIdentity(
                    f"the public key of {name} is of small order, or not in its one encoding",
                    hint="no key that a hospital generated is; ask it for its key again",
                )
        if len(set(self.keys.values())) != len(self.keys):
            # One machine under two names would count twice towards the threshold.
            raise InvalidIdentity("two clients of the roster have the same public key")
        ordered = {name: bytes(self.keys[name]) for name in sorted(self.keys)}
        object.__setattr__(self, "keys", MappingProxyType(ordered))
        object.__setattr__(self, "names", tuple(ordered))
        parts = [part for name, key in ordered.items() for part in (name.encode(), key)]
        object.__setattr__(self, "fingerprint", digest("roster", *parts).hex())

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def verify(self, name: str, message: bytes, signature: bytes) -> None:
        """Return only if `name` signed `message`.

        Raises:
            UnknownSender: if the roster has no such client.
            BadSignature: if its pinned key did not make the signature.
        """
        key = self.keys.get(name)
        if key is None:
            raise UnknownSender(f"{name!r} is not in the roster")
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise BadSignature(f"the pinned key of {name} did not sign this message") from error

    def save(self, path: Path) -> None:
        """Write the roster as JSON (public information)."""
        keys = {name: base64.b64encode(key).decode() for name, key in self.keys.items()}
        encoded = msgspec.json.encode(_RosterFile(schema=1, clients=keys))
        path.write_bytes(msgspec.json.format(encoded) + b"\n")

    @classmethod
    def load(cls, path: Path) -> "Roster":
        """Read a roster written by `save`.

        Raises:
            InvalidIdentity: if the file is missing, too long, or not a roster.
        """
        try:
            with path.open("rb") as f:
                text = f.read(MAX_ROSTER_FILE_BYTES + 1)
        except OSError as error:
            raise InvalidIdentity(f"cannot read the roster {path}: {error.strerror}") from error
        if len(text) > MAX_ROSTER_FILE_BYTES:
            raise InvalidIdentity(f"the roster {path} is longer than {MAX_ROSTER_FILE_BYTES} bytes")
        return cls.from_json(text)

    @classmethod
    def from_json(cls, text: bytes) -> "Roster":
        """Parse the JSON text of a roster.

        Raises:
            InvalidIdentity: if it is not a valid roster.
        """
        try:
            file = msgspec.json.decode(text, type=_RosterFile)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidIdentity(f"not a roster: {error}") from error
        if file.schema != 1:
            raise InvalidIdentity(f"roster schema {file.schema} is unknown; this version reads 1")
        try:
            keys = {n: base64.b64decode(k, validate=True) for n, k in file.clients.items()}
        except (binascii.Error, ValueError) as error:
            raise InvalidIdentity("a public key of the roster is not base64") from error
        return cls(keys)
