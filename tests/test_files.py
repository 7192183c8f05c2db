"""Files are read to a limit, written whole, and private where they must be."""

import os
import signal
import stat
import threading
from pathlib import Path

import pytest

from securefed import files
from securefed.errors import DataError, RunError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_at_the_limit_is_read_and_one_byte_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)
    assert files.read_bounded(path, 10) == b"x" * 10
    with pytest.raises(RunError, match=r"larger than 9 bytes"):
        files.read_bounded(path, 9)


def test_a_device_without_an_end_is_refused_too() -> None:
    with pytest.raises(RunError, match="larger"):
        files.read_bounded(Path("/dev/zero"), 1000)


def test_a_missing_file_is_an_error_of_the_callers_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*none: No such file"):
        files.read_bounded(tmp_path / "none", 10, error=DataError)


def test_a_crash_while_writing_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    files.write_atomically(path, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"cannot write .*file: No space left"):
            files.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    files.write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_private_file_is_its_owners_only_whatever_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files.create_private(tmp_path / "key", b"secret")
        with files.append_private(tmp_path / "log") as log:
            log.write(b"line")
    finally:
        os.umask(before)
    assert mode(tmp_path / "key") == mode(tmp_path / "log") == 0o600


def test_a_private_file_is_never_made_over_another_or_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"first")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("key", "link"):
        with pytest.raises(FileExistsError):
            files.create_private(tmp_path / name, b"second")
    assert (tmp_path / "key").read_bytes() == b"first"
    assert not (tmp_path / "elsewhere").exists()


def test_appending_keeps_what_was_there(tmp_path: Path) -> None:
    for line in (b"one\n", b"two\n"):
        with files.append_private(tmp_path / "log") as log:
            log.write(line)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


def test_an_empty_file_that_others_may_read_becomes_its_owner_s_alone(tmp_path: Path) -> None:
    for name, content, after in (("empty", b"", 0o600), ("begun", b"one", 0o644)):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o644)
        files.append_private(tmp_path / name).close()
        assert mode(tmp_path / name) == after


def test_what_belongs_together_is_finished_before_a_stop_is_heard() -> None:
    done = []
    before = signal.getsignal(signal.SIGINT)
    with files.finishing():
        signal.raise_signal(signal.SIGINT)
        done.append(1)
    assert done == [1]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    thread = threading.Thread(target=files.finishing().__enter__)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) == before
