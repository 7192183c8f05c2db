"""compare.json as the report shows it: one table of configurations and baselines, and its notes."""

from pathlib import Path
from typing import Literal

import msgspec

from securefed.errors import RunError
from securefed.reporting.facts import ComparedRow, Comparison
from securefed.reporting.sources import read_json
from securefed.reporting.words import NOTHING, number, seconds, size, span

COLUMNS = [
    "AUC (mean over seeds)",
    "95% over patients",
    "95% over seeds",
    "accuracy",
    "precision",
    "recall",
    "F1",
    "epsilon spent",
    "converged at round",
    "bytes up per hospital and round",
    "hospital seconds per round",
    "audit",
    "gravest by observer",
]


class FigurePart(msgspec.Struct, frozen=True):
    value: float | None = None
    ci95_patients: tuple[float, float] | None = None
    ci95_seeds: tuple[float, float] | None = None


class LeakPart(msgspec.Struct, frozen=True):
    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"] | None = None
    value: float | None = None


class LeakagePart(msgspec.Struct, frozen=True):
    """The gravest verdict, and observer -> attack -> its gravest judgement."""

    verdict: str | None = None
    observers: dict[str, dict[str, LeakPart]] = msgspec.field(default_factory=dict)


class RowPart(msgspec.Struct, frozen=True):
    """A row of configurations or baselines; both have the same figures."""

    name: str
    figures: dict[str, FigurePart] = msgspec.field(default_factory=dict)
    auc_is: str = "auc"
    privacy: str | None = None
    remark: str | None = None
    convergence_round: float | None = None
    epsilon_spent: float | None = None
    cost: dict[str, float | None] = msgspec.field(default_factory=dict)
    leakage: LeakagePart | None = None


class StartingRow(msgspec.Struct, frozen=True):
    name: str
    accuracy: float | None = None
    auc: float | None = None


class StartingPart(msgspec.Struct, frozen=True):
    note: str = ""
    rows: list[StartingRow] = msgspec.field(default_factory=list)


class CompareFile(msgspec.Struct, frozen=True):
    schema: int
    complete: bool = True
    seeds: list[int] = msgspec.field(default_factory=list)
    configurations: list[RowPart] = msgspec.field(default_factory=list)
    baselines: list[RowPart] = msgspec.field(default_factory=list)
    baselines_refused: str | None = None
    starting_report: StartingPart | None = None
    notes: list[str] = msgspec.field(default_factory=list)


def read_comparison(path: Path) -> Comparison:
    """The table of a comparison.

    Raises:
        RunError: damaged, or of another schema.
    """
    file = read_json(path, CompareFile)
    if file.schema != 1:
        raise RunError(f"{path} has schema {file.schema}, this program reads 1")
    rows = [_row(part) for part in (*file.configurations, *file.baselines)]
    notes = list(file.notes)
    if not file.complete:
        notes.insert(0, "The comparison is not finished; rows are missing.")
    if file.baselines_refused:
        notes.append(file.baselines_refused)
    notes += [f"{part.name}: {part.remark}" for part in file.baselines if part.remark]
    if file.starting_report:
        rows += [_starting(row) for row in file.starting_report.rows]
        notes.append(f"Starting report: {file.starting_report.note}.")
    return Comparison(columns=COLUMNS, rows=rows, notes=list(dict.fromkeys(notes)))


def _row(part: RowPart) -> ComparedRow:
    def value(name: str) -> str:
        return number(part.figures.get(name, FigurePart()).value)

    headline = part.figures.get(part.auc_is, FigurePart())
    sent = part.cost.get("bytes_up_per_client_round")
    return ComparedRow(
        name=f"{part.name}, {part.privacy}" if part.privacy else part.name,
        cells=[
            number(headline.value),
            span(headline.ci95_patients),
            span(headline.ci95_seeds),
            value("accuracy"),
            value("precision"),
            value("recall"),
            value("f1"),
            number(part.epsilon_spent),
            number(part.convergence_round),
            NOTHING if sent is None else size(sent),
            seconds(part.cost.get("client_seconds_per_round")),
            (part.leakage.verdict if part.leakage else None) or NOTHING,
            _leaks(part.leakage),
        ],
    )


def _leaks(leakage: LeakagePart | None) -> str:
    if leakage is None:
        return NOTHING
    order = (None, "PASS", "INCONCLUSIVE", "INVALID", "FAIL")
    parts = []
    for observer, attacks in leakage.observers.items():
        attack, leak = max(attacks.items(), key=lambda item: order.index(item[1].verdict))
        figure = "" if leak.value is None else f" {number(leak.value)}"
        parts.append(f"{observer}: {attack}{figure} ({leak.verdict or 'not judged'})")
    return "; ".join(parts) or NOTHING


def _starting(row: StartingRow) -> ComparedRow:
    cells = [NOTHING] * len(COLUMNS)
    cells[0], cells[3] = number(row.auc), number(row.accuracy)
    return ComparedRow(name=f"starting report (another data set): {row.name}", cells=cells)
