"""The key that signs reports: an Ed25519 key in a PEM file of its owner's.

Made on first use, readable by its owner only, outside of any run directory. It says who made a
report; it has nothing to do with the hospitals' keys. The file is not encrypted: whoever can read
it can sign as its owner.
"""

import os
import re
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from securefed.errors import ConfigurationError
from securefed.files import create_private, read_bounded
from securefed.reporting.integrity import public_hex

NAME = "report-key.pem"
OTHERS = stat.S_IRWXG | stat.S_IRWXO
LARGEST_KEY = 16_384  # bytes


def load_or_create(path: Path, *, create: bool) -> tuple[Ed25519PrivateKey, bool]:
    """The key in a file, and whether it was made just now.

    Raises:
        ConfigurationError: no Ed25519 key, readable by others, or the file cannot be made; or it is
            not there and is not to be made.
    """
    try:
        return _load(path), False
    except FileNotFoundError:
        if create:
            return _create(path), True
    raise ConfigurationError(
        f"there is no key {path}",
        hint="correct the path, or make a key there with --new-key: it signs as somebody new",
    )


def _load(path: Path) -> Ed25519PrivateKey:
    try:
        with path.open("rb") as source:
            mode = os.fstat(source.fileno()).st_mode
            content = source.read(LARGEST_KEY)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigurationError(f"cannot read the key {path}: {error.strerror}") from None
    if mode & OTHERS:
        raise ConfigurationError(
            f"the key {path} can be used by others (mode {stat.S_IMODE(mode):o})",
            hint=f"chmod 600 {path}; if others had access, use a new key",
        )
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(
            f"{path} holds no unencrypted Ed25519 private key in PEM",
            hint="name another file; --new-key makes a key where there is none",
        )
    return key


def _create(path: Path) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        create_private(path, pem)
    except OSError as error:
        raise ConfigurationError(
            f"cannot make the key {path}: {error.strerror}", hint="name another file with --key"
        ) from None
    return key


def signer_of(text: str) -> str:
    """A public key given as 64 hexadecimal digits or as a PEM file, as hexadecimal digits.

    Raises:
        ConfigurationError: it is neither.
    """
    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return text.lower()
    try:
        content = read_bounded(Path(text), LARGEST_KEY, error=ConfigurationError)
        key = load_pem_public_key(content)
    except (ConfigurationError, ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError(
            f"--signer {text} is neither 64 hexadecimal digits nor a PEM file with a public key",
            hint="securefed report prints the key it signs with",
        )
    return public_hex(key)
