"""Reads what a run left behind, and refuses what is damaged with one line that names the file.

Only the keys that the report shows are read; unknown ones are let be, since a newer program may
have added them. Nothing here imports torch: a report is made from files.
"""

import json
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from securefed.errors import RunError

Shape = TypeVar("Shape")
LARGEST_JSON = 64 * 2**20  # bytes; metrics.jsonl of a thousand rounds and hospitals is under 40 MB


class Split(msgspec.Struct, frozen=True):
    train: int
    test: int


class DataPart(msgspec.Struct, frozen=True):
    kind: str
    hospitals: dict[str, Split]
    warnings: list[str] = msgspec.field(default_factory=list)


class RunFile(msgspec.Struct, frozen=True):
    """run.json."""

    schema: int
    run: str
    securefed: str
    configuration: str
    settings: dict[str, Any]
    data: DataPart
    model: dict[str, Any]
    randomness: dict[str, Any]
    environment: dict[str, Any]


class SummaryFile(msgspec.Struct, frozen=True):
    """summary.json."""

    schema: int
    configuration: str
    rounds: int
    clients: int
    patients: int
    auc: float | None
    auc_ci95: tuple[float, float] | None
    accuracy: float | None
    sensitivity: float | None
    specificity: float | None
    f1: float | None
    local_auc: float | None
    epsilon: float | None
    epsilon_by_client: dict[str, float] | None
    delta: float | None
    privacy_unit: str | None
    accountant: str | None
    wall_seconds: float | None = None


class ConfusionPart(msgspec.Struct, frozen=True):
    true_positive: int
    false_negative: int
    false_positive: int
    true_negative: int


class HeldOutFile(msgspec.Struct, frozen=True):
    """held_out.json; `roc` is a list of (false-positive rate, true-positive rate)."""

    patients: int
    confusion: ConfusionPart
    roc: list[tuple[float, float]] | None


class HospitalFile(msgspec.Struct, frozen=True):
    """hospitals/NAME/summary.json."""

    name: str
    training_patients: int | None = None
    held_out_patients: int | None = None
    auc: float | None = None
    auc_ci95: tuple[float, float] | None = None
    accuracy: float | None = None
    local_auc: float | None = None
    epsilon: float | None = None


class MetricsLine(msgspec.Struct, frozen=True):
    """A line of metrics.jsonl: of a round where `client` is None, else of a client in it."""

    round: int
    client: str | None
    survivors: list[str] = msgspec.field(default_factory=list)
    dropped: dict[str, str] = msgspec.field(default_factory=dict)
    aborted: str | None = None
    loss: float | None = None
    auc: float | None = None
    epsilon: float | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    wall_s: float | None = None


class Sources(msgspec.Struct, frozen=True):
    """The parsed files of one run directory."""

    folder: Path
    run: RunFile
    summary: SummaryFile
    held_out: HeldOutFile | None
    metrics: list[MetricsLine]
    hospitals: list[HospitalFile]


def read_run(folder: Path) -> Sources:
    """Read a finished run.

    Raises:
        RunError: no run, an unfinished one, or a damaged file; the message names it.
    """
    if not (folder / "run.json").is_file():
        raise RunError(
            f"{folder} holds no run (no run.json)", hint="give the directory that --out named"
        )
    if not (folder / "summary.json").is_file():
        raise RunError(
            f"the run in {folder} is not finished (no summary.json)",
            hint=f"finish it with: securefed run --resume {folder}",
        )
    return Sources(
        folder,
        read_json(folder / "run.json", RunFile),
        read_json(folder / "summary.json", SummaryFile),
        read_json(folder / "held_out.json", HeldOutFile)
        if (folder / "held_out.json").is_file()
        else None,
        _lines(folder / "metrics.jsonl"),
        [
            read_json(path, HospitalFile)
            for path in sorted((folder / "hospitals").glob("*/summary.json"))
        ],
    )


def read_json(path: Path, shape: type[Shape]) -> Shape:
    """A JSON file of a known shape.

    Raises:
        RunError: unreadable, too large, not JSON, or not of that shape.
    """
    try:
        return msgspec.json.decode(read_bounded(path), type=shape, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is damaged: {error}") from None


def read_bounded(path: Path) -> bytes:
    """A file's content; RunError if it cannot be read or is larger than LARGEST_JSON."""
    try:
        with path.open("rb") as source:
            content = source.read(LARGEST_JSON + 1)
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > LARGEST_JSON:
        raise RunError(f"{path} is larger than {LARGEST_JSON // 2**20} MB")
    return content


def _lines(path: Path) -> list[MetricsLine]:
    lines = []
    for number, line in enumerate(read_bounded(path).splitlines(), start=1):
        try:
            lines.append(msgspec.json.decode(line, type=MetricsLine))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RunError(f"{path}, line {number} is damaged: {error}") from None
    return lines


def flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted key, value in JSON) in their order, without paths.

    A path could name a person or a share of the hospital's, and the report travels.
    """
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            rows += flat(value, f"{name}.")
        elif isinstance(value, str) and ("/" in value or "\\" in value):
            rows.append((name, "given (a path, not repeated here)"))
        else:
            rows.append((name, value if isinstance(value, str) else json.dumps(value)))
    return rows
