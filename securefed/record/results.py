"""A finished run as values: what the files of a run directory hold, typed, for scripts.

Read from summary.json, run.json, metrics.jsonl and hospitals/NAME/summary.json, whose keys
docs/run-directory.md explains; fields here have the same names. Every value is checked against its
type, unknown keys are left out, and torch is not imported. No patient's data is in any of these
files.

Not covered: weights (model.safetensors) and audits (audit.json).
"""

import html
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from securefed.config import Configuration, Settings
from securefed.errors import ConfigurationError, RunError

if TYPE_CHECKING:
    from securefed.privacy.accounting import Guarantee

SCHEMA = 1
LARGEST_FILE = 256 * 2**20  # bytes; metrics.jsonl of 100,000 rounds stays below
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How a model did on held-out patients at probability one half; None where it cannot be said.

    Attributes:
        auc_ci95: 95% interval of `auc` (lower, upper).
    """

    auc: float | None
    auc_ci95: tuple[float, float] | None
    accuracy: float | None
    sensitivity: float | None
    specificity: float | None
    f1: float | None


@dataclass(frozen=True, kw_only=True)
class Summary(Scores):
    """summary.json: the global model, and what it cost.

    Attributes:
        patients: training patients of all hospitals.
        local_auc: mean AUC of models trained alone, where the run had baselines.
        epsilon: the largest of any hospital, an upper bound; means nothing without delta, unit and
            accountant: `RunResult.guarantee` has them together. None without DP.
        bytes_up_per_client_round, client_seconds_per_round, ...: medians.
    """

    schema: int
    configuration: Configuration
    rounds: int
    clients: int
    patients: int
    local_auc: float | None
    epsilon: float | None
    epsilon_by_client: dict[str, float] | None
    delta: float | None
    privacy_unit: str | None
    accountant: Literal["prv", "rdp"] | None
    bytes_up_per_client_round: float | None
    bytes_down_per_client_round: float | None
    client_seconds_per_round: float | None
    aggregate_seconds_per_round: float | None
    wall_seconds: float
    survivors_by_round: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class HospitalResult(Scores):
    """The final model on one hospital's own held-out patients; its own file, not the server's."""

    name: str
    training_patients: int
    held_out_patients: int
    local_auc: float | None
    epsilon: float | None


@dataclass(frozen=True, kw_only=True)
class RoundResult:
    """One training round.

    Attributes:
        dropped: hospital -> reason.
        aborted: why nothing was aggregated, or "".
        loss, auc: of the parameters the round started from; None in rounds without evaluation.
        epsilon: the largest spent so far, None without DP.
        bytes_up, bytes_down: over all hospitals.
        wall_s, server_s: seconds of the round, and of the server's own work in it.
    """

    round: int
    survivors: tuple[str, ...]
    dropped: dict[str, str]
    aborted: str
    patients: int
    loss: float | None
    auc: float | None
    epsilon: float | None
    bytes_up: int
    bytes_down: int
    wall_s: float
    server_s: float


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        directory: where its files are.
        settings: that it was made with.
        rounds: its training rounds in order; one repeated after a crash as it went the last time.
    """

    directory: Path
    settings: Settings
    summary: Summary
    hospitals: tuple[HospitalResult, ...]
    rounds: tuple[RoundResult, ...]

    @property
    def guarantee(self) -> "Guarantee | None":
        """The largest epsilon of any hospital with all that it means; None without DP."""
        from securefed.privacy.accounting import Guarantee  # imports scipy

        one = self.summary
        if one.epsilon is None or one.delta is None or not one.privacy_unit or not one.accountant:
            return None
        return Guarantee(one.epsilon, one.delta, one.privacy_unit, one.accountant)

    def to_pandas(self, table: Literal["rounds", "hospitals"] = "rounds") -> Any:
        """One row per round, or per hospital, as a pandas.DataFrame.

        Raises:
            ConfigurationError: pandas is not installed, or there is no such table.
        """
        rows: Sequence[RoundResult | HospitalResult]
        if table == "rounds":
            rows = self.rounds
        elif table == "hospitals":
            rows = self.hospitals
        else:
            raise ConfigurationError(
                f"there is no table {table!r}", hint='choose "rounds" or "hospitals"'
            )
        try:
            pandas = import_module("pandas")
        except ImportError:
            raise ConfigurationError(
                "to_pandas needs pandas, which is not installed",
                hint="pip install pandas; the same rows are in .rounds and .hospitals",
            ) from None
        return pandas.DataFrame([asdict(row) for row in rows])

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        lines = [("global", self.summary), *((each.name, each) for each in self.hospitals)]
        rows = "".join(
            f'<tr><th scope="row">{html.escape(name)}</th>'
            + "".join(f"<td>{_figure(key, getattr(one, key))}</td>" for key in _SHOWN)
            + f"<td>{_interval(one.auc_ci95)}</td></tr>"
            for name, one in lines
        )
        head = "".join(f'<th scope="col">{key}</th>' for key in ("", *_SHOWN, "95% CI of AUC"))
        privacy = self.guarantee
        told = f"largest: {privacy}" if privacy else "no differential privacy: no epsilon"
        return (
            f"<p><b>{html.escape(self.summary.configuration)}</b>, {self.summary.rounds} rounds, "
            f"{self.summary.clients} hospitals, {html.escape(str(self.directory))}</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            f"<p>{html.escape(told)}</p>"
        )


_SHOWN = ("auc", "accuracy", "sensitivity", "specificity", "f1", "epsilon")


def _figure(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    if key == "epsilon" and math.isfinite(value):
        value = math.ceil(value * 1000) / 1000  # a bound must not look smaller than it is
    return f"{value:.3f}"


def _interval(bounds: tuple[float, float] | None) -> str:
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}" if bounds else "-"


def read_run(directory: Path) -> RunResult:
    """The results in a run directory.

    Raises:
        RunError: there is no finished run, a file is damaged, or of another version.
    """
    if not (directory / "run.json").is_file():
        raise RunError(
            f"{directory} holds no run (no run.json)", hint="give the directory of a run"
        )
    if not (directory / "summary.json").is_file():
        raise RunError(
            f"the run in {directory} is not finished (no summary.json)",
            hint=f"continue it with securefed.resume({str(directory)!r})",
        )
    about = _read(directory / "run.json", dict[str, Any])
    summary = _read(directory / "summary.json", Summary)
    if summary.schema != SCHEMA:
        raise RunError(
            f"{directory / 'summary.json'} has schema {summary.schema}, this version reads {SCHEMA}"
        )
    names = _convert(about.get("data", {}).get("hospitals"), dict[str, Any], directory / "run.json")
    return RunResult(
        directory=directory,
        settings=_settings(about, directory / "run.json"),
        summary=summary,
        hospitals=tuple(_hospital(directory, name) for name in names),
        rounds=_rounds(directory / "metrics.jsonl", summary.rounds),
    )


def _hospital(directory: Path, name: str) -> HospitalResult:
    if name == ".." or Path(name).name != name:  # a name from a file must not lead elsewhere
        raise RunError(f"{directory / 'run.json'} names a hospital {name!r}")
    return _read(directory / "hospitals" / name / "summary.json", HospitalResult)


def _rounds(path: Path, last: int) -> tuple[RoundResult, ...]:
    decoder = msgspec.json.Decoder()
    try:
        lines = [decoder.decode(line) for line in _bytes(path).splitlines()]
    except msgspec.DecodeError as error:
        raise RunError(f"cannot read {path}: {error}") from None
    found: dict[int, RoundResult] = {}
    for line in _convert(lines, list[dict[str, Any]], path):
        if line.get("client") is None:
            one = _convert(line, RoundResult, path)
            found[one.round] = one
    # Round `last` + 1 is the evaluation after training; its scores are in the summary.
    return tuple(found[number] for number in sorted(found) if number <= last)


def _settings(about: dict[str, Any], path: Path) -> Settings:
    try:
        return Settings.model_validate_json(msgspec.json.encode(about.get("settings")))
    except ValueError as error:
        raise RunError(f"{path} holds no settings of this version: {error}") from None


def _read(path: Path, kind: type[T]) -> T:
    try:
        value = msgspec.json.decode(_bytes(path))
    except msgspec.DecodeError as error:
        raise RunError(f"cannot read {path}: {error}") from None
    return _convert(value, kind, path)


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise RunError(f"{path} is larger than {LARGEST_FILE // 2**20} MB: not of a run")
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None


def _convert(value: object, kind: type[T], path: Path) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise RunError(f"{path} is damaged or of another version: {error}") from None
