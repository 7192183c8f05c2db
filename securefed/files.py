"""Files: read no further than expected, written whole, private where nobody else may look.

    read_bounded      a file's content, refused beyond a limit
    write_atomically  the old content or the new, whatever happens in between
    create_private    a new file of its owner's, never over another one
    append_private    to a file of its owner's
    only_writer       one process at a time in a folder, or at a file
    writing_into      the same, of a folder that is made for it
    finishing         files that belong together are written before Ctrl-C is heard

Not covered: who owns the folder. Whoever may write to it can replace any file in it.
"""

import errno
import fcntl
import os
import platform
import signal
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import BinaryIO

from securefed.errors import DiskFull, RunError, SecureFedError

OWNER_ONLY = 0o600
LOCK, LOCK_OF_A_FILE = "writer.lock", ".lock"  # in a folder, beside a file
LARGEST_HOLDER = 300  # bytes
AGAIN = "free some space, and give the same command again"


def read_bounded(
    path: Traversable,
    limit: int,
    *,
    error: type[SecureFedError] = RunError,
    hint: str | None = None,
) -> bytes:
    """A file's content, at most `limit` bytes.

    Raises:
        error: it cannot be read (with `hint`), or is larger.
    """
    try:
        with path.open("rb") as source:
            # One byte more than allowed: a file's size may change, and a device has none.
            content = source.read(limit + 1)
    except OSError as reason:
        raise error(f"cannot read {path}: {reason.strerror}", hint=hint) from None
    if len(content) > limit:
        raise error(f"{path} is larger than {limit:,} bytes, the most that is read")
    return content


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves either the old content or the new.

    Raises:
        DiskFull, RunError: it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as out:
            out.write(content)
            _to_disk(out)
        partial.replace(path)
    except BaseException as reason:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(reason, OSError):
            raise unwritable(path, reason) from None
        raise


def unwritable(path: Path, reason: OSError) -> RunError:
    """The error of a file that the system did not let us write."""
    text = f"cannot write {path}: {reason.strerror}"
    if is_full(reason):
        return DiskFull(text, hint=AGAIN)
    return RunError(text, hint=f"{path.parent} must be a folder that this account can write to")


def is_full(reason: OSError) -> bool:
    """Whether it was for want of space, or of what a user may take of it."""
    return reason.errno in (errno.ENOSPC, errno.EDQUOT)


def is_lock(name: str) -> bool:
    """Whether a file of that name is one of `only_writer`, which says nothing that lasts."""
    return name == LOCK or name.endswith(f".sqlite{LOCK_OF_A_FILE}")


def create_private(path: Path, content: bytes) -> None:
    """Make a file that only its owner can read.

    Raises:
        FileExistsError: there is something of that name; it is neither followed nor replaced.
        OSError: it cannot be written.
    """
    # Created with its mode, not chmod-ed afterwards: it is never readable by others.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(handle, "wb") as out:
        out.write(content)
        _to_disk(out)


def append_private(path: Path) -> BinaryIO:
    """A file opened for appending; one that is made, or was empty, is its owner's only."""

    def opener(name: str, flags: int) -> int:
        handle = os.open(name, flags, OWNER_ONLY)
        about = os.fstat(handle)
        if stat.S_ISREG(about.st_mode) and not about.st_size:
            os.fchmod(handle, OWNER_ONLY)
        return handle

    return open(path, "ab", opener=opener)


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Keep other processes that ask for it, and other threads, from writing to `path` meanwhile.

    Args:
        path: a folder, in which the lock lies, or a file, beside which it lies.

    Guarantee: the system releases the lock when the process ends, however it does; a lock file that
    a crash leaves is nobody's. Not on a network file system without locks, which is refused.

    Raises:
        RunError: somebody else writes there, who is named as far as it is known; or no lock can be
            made there.
    """
    lock = path / LOCK if path.is_dir() else path.with_name(path.name + LOCK_OF_A_FILE)
    try:
        handle = _lock(lock, path)
    except OSError as reason:
        raise unwritable(lock, reason) from None
    try:
        with suppress(OSError):  # who holds it is for people; the lock itself needs no space
            os.truncate(handle, 0)
            since = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
            os.write(handle, f"process {os.getpid()} on {platform.node()}, {since}".encode())
        yield
    finally:
        # In this order: who opens the file in between finds it gone, and makes another.
        with suppress(OSError):
            lock.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Make a folder unless it is there, and be its only writer; one that stays empty goes again.

    Raises:
        RunError: it cannot be made, or as `only_writer`.
    """
    made: list[Path] = []
    with gone_if_empty(made):
        try:
            made += [each for each in (folder, *folder.parents) if not each.exists()]
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as reason:
            raise RunError(
                f"cannot make {folder}: {reason.strerror}", hint="choose another --out"
            ) from None
        with only_writer(folder):
            yield


@contextmanager
def finishing() -> Iterator[None]:
    """Let a block that takes moments come to its end: whoever asks to stop meanwhile is too late.

    Only the main thread hears of signals; in others this does nothing. A crash is not covered.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def gone_if_empty(folders: Sequence[Path]) -> Iterator[None]:
    """Remove those folders that are empty at the end, inner ones first."""
    try:
        yield
    finally:
        for each in folders:
            with suppress(OSError):  # it holds something
                each.rmdir()


def _lock(lock: Path, path: Path) -> int:
    """The handle of a lock file that is locked and still there."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(lock, handle):
                return handle
        except BlockingIOError:
            holder = os.read(handle, LARGEST_HOLDER).decode(errors="replace")
            os.close(handle)
            raise RunError(
                f"{path} is being written to by {holder or 'another process'}",
                hint="wait until that has ended; its lock ends with it, also after a crash",
            ) from None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _is(path: Path, handle: int) -> bool:
    """Whether a handle is of the file that has this name now."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _to_disk(out: BinaryIO) -> None:
    out.flush()
    os.fsync(out.fileno())
