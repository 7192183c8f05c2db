"""A start that fails leaves nothing: the corrected command can be typed with the same --out."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner, Result

from securefed.cli.app import cli
from securefed.errors import DiskFull, Interrupted, SecureFedError
from securefed.hospital import opening as hospital_opening
from securefed.simulation import hospitals
from tests.tiny import changed, tiny

TINY = tiny(
    training={"max_slices": 2}, federation={"clients": 3, "shared": "classifier", "rounds": 1}
)


def run(folder: Path, *arguments: object, **sections: object) -> Result:
    """`securefed run` in this process, into folder/new/run."""
    config = folder / "c.yaml"
    config.write_text(yaml.safe_dump(changed(TINY, **sections)))
    return command("run", "--config", config, "--out", folder / "new" / "run", *arguments)


def command(*arguments: object) -> Result:
    words = list(map(str, arguments))
    return CliRunner().invoke(cli, words, standalone_mode=False, catch_exceptions=False)


def require_nothing_left(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == ["c.yaml"]


@pytest.mark.parametrize(
    ("arguments", "sections"),
    [
        (("--dp-epsilon", 1e-6), {"privacy": {"patients_epsilon": 1e-7}}),
        (("--canaries", 100_000), {}),
        ((), {"privacy": {"delta": 0.2}}),
        ((), {"secure_aggregation": {"max_patients": 1}}),
        (("--data", "missing.csv"), {}),
        (("--device", "cuda"), {}),
        (("--baselines", "--canaries", 3), {}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_begin_leaves_no_folder(
    arguments: tuple[object, ...],
    sections: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SecureFedError) as refused:
        run(tmp_path, *arguments, **sections)
    assert refused.value.hint
    require_nothing_left(tmp_path)


def test_the_corrected_command_works_with_the_same_out(tmp_path: Path) -> None:
    with pytest.raises(SecureFedError):
        run(tmp_path, privacy={"delta": 0.2})
    assert run(tmp_path).exit_code == 0
    assert (tmp_path / "new" / "run" / "summary.json").is_file()


def test_a_folder_that_was_there_before_stays(tmp_path: Path) -> None:
    (tmp_path / "new" / "run").mkdir(parents=True)
    with pytest.raises(SecureFedError):
        run(tmp_path, privacy={"delta": 0.2})
    assert not list((tmp_path / "new" / "run").iterdir())


def _disk_is_full(*_: object) -> None:
    raise OSError(28, os.strerror(28))


def _ctrl_c(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("happens", "error"), [(_disk_is_full, OSError), (_ctrl_c, Interrupted)], ids=["full", "ctrl-c"]
)
def test_what_stops_the_preparation_of_a_hospital_leaves_nothing_either(
    happens: Callable[..., None],
    error: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first_opened: list[str] = []
    open_hospital = hospital_opening.open_hospital

    def opened(*arguments: object, **options: object) -> object:
        if first_opened:
            happens()
        first_opened.append("")
        return open_hospital(*arguments, **options)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(hospitals, "open_hospital", opened)
    with pytest.raises(error):
        run(tmp_path)
    require_nothing_left(tmp_path)


def test_a_disk_that_fills_up_during_the_rounds_says_what_is_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from securefed.record import metrics

    append, rounds = metrics.append, []

    def full(folder: Path, lines: object) -> None:
        rounds.append(lines)
        if len(rounds) == 2:
            _disk_is_full()
        append(folder, lines)  # type: ignore[arg-type]  # passed on as they are

    out = tmp_path / "new" / "run"
    with monkeypatch.context() as patched:
        patched.setattr(metrics, "append", full)
        with pytest.raises(DiskFull, match="every finished round is on disk") as stopped:
            run(tmp_path, "--no-dp", federation={"rounds": 3})
    assert (
        stopped.value.hint == f"free some space, then continue with: securefed run --resume {out}"
    )
    assert not (out / "summary.json").exists()
    assert "results: " in command("run", "--resume", out).stderr
