"""Where an engine's files lie below a folder: engine/, which nobody else reads or writes.

engine/authority/       a server's: the certificate authority of the federation
engine/request/         a private key, and the request that its public half travels in
engine/kit/             FLARE's workspace: certificate, address, and what it may do here
engine/lead/            a server's: the kit of whoever submits jobs
engine/connected.json   a server's: which hospitals are connected now
activity.jsonl          what happened here, line by line
"""

import shlex
from importlib.util import find_spec
from pathlib import Path

from securefed.errors import ConfigurationError

ACTIVITY = "activity.jsonl"


def require_engine() -> None:
    """Refuse to go on without the engine.

    Raises:
        ConfigurationError: nvflare is not installed.
    """
    if find_spec("nvflare") is None:
        raise ConfigurationError(
            "hospitals on machines of their own need NVIDIA FLARE, which is not installed",
            hint="pip install 'securefed[engine]'",
        )


def require_path(folder: Path) -> None:
    """Refuse a place whose path FLARE would take apart: it puts command lines into one text.

    Raises:
        ConfigurationError: the path holds blanks or other signs of a shell.
    """
    path = str(folder.resolve())
    if shlex.quote(path) != path:
        raise ConfigurationError(
            f"the engine cannot work in {path}",
            hint="use a folder whose whole path has no blanks, brackets or quotes",
        )


def authority(folder: Path) -> Path:
    return folder / "engine" / "authority"


def request(folder: Path) -> Path:
    return folder / "engine" / "request"


def kit(folder: Path) -> Path:
    return folder / "engine" / "kit"


def lead(folder: Path) -> Path:
    return folder / "engine" / "lead"


def connected(folder: Path) -> Path:
    return folder / "engine" / "connected.json"


def owner_of(root: str) -> Path:
    """The folder of a site or server, from the root of its kit, as FLARE knows it."""
    return Path(root).resolve().parents[1]
