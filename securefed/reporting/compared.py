"""compare.json as the report shows it: a table a question, and the notes."""

from pathlib import Path
from typing import Literal

import msgspec

from securefed.errors import RunError
from securefed.reporting.facts import ComparedRow, ComparedTable, Comparison
from securefed.reporting.sources import read_json
from securefed.reporting.words import NOTHING, number, seconds, size, span

OBSERVERS = ("server", "peer", "coalition", "outsider")
GRAVITY = (None, "PASS", "INCONCLUSIVE", "INVALID", "FAIL")
FIGURES = ("accuracy", "precision", "recall", "f1")


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
    confusion: dict[str, int] = msgspec.field(default_factory=dict)
    auc_is: str = "auc"
    privacy: str | None = None
    remark: str | None = None
    convergence_round: float | None = None
    epsilon_spent: float | None = None
    cost: dict[str, float | None] = msgspec.field(default_factory=dict)
    leakage: LeakagePart | None = None


class SharePart(msgspec.Struct, frozen=True):
    share: float
    figures: dict[str, FigurePart] = msgspec.field(default_factory=dict)


class EfficiencyPart(msgspec.Struct, frozen=True):
    shares: list[SharePart] = msgspec.field(default_factory=list)
    smallest_tried_share_that_reaches_it: float | None = None


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
    data_efficiency: EfficiencyPart | None = None
    starting_report: StartingPart | None = None
    notes: list[str] = msgspec.field(default_factory=list)


def read_comparison(path: Path) -> Comparison:
    """The tables of a comparison.

    Raises:
        RunError: damaged, or of another schema.
    """
    file = read_json(path, CompareFile)
    if file.schema != 1:
        raise RunError(f"{path} has schema {file.schema}, this program reads 1")
    notes = list(file.notes)
    if not file.complete:
        notes.insert(0, "The comparison is not finished; rows are missing.")
    if file.baselines_refused:
        notes.append(file.baselines_refused)
    notes += [f"{part.name}: {part.remark}" for part in file.baselines if part.remark]
    found = [
        _performance([*file.configurations, *file.baselines]),
        _confusion([*file.configurations, *file.baselines]),
        _cost(file.configurations),
        _leakage(file.configurations),
        _efficiency(file.data_efficiency),
        _starting(file.starting_report),
    ]
    tables = [table for table in found if table.rows]
    return Comparison(tables=tables, notes=list(dict.fromkeys(notes)))


def _name(part: RowPart) -> str:
    return f"{part.name}, {part.privacy}" if part.privacy else part.name


def _performance(parts: list[RowPart]) -> ComparedTable:
    rows = []
    for part in parts:
        headline = part.figures.get(part.auc_is, FigurePart())
        cells = [
            number(headline.value),
            span(headline.ci95_patients),
            span(headline.ci95_seeds),
            *(number(part.figures.get(name, FigurePart()).value) for name in FIGURES),
            number(part.convergence_round),
        ]
        rows.append(ComparedRow(name=_name(part), cells=cells))
    return ComparedTable(
        title="What the models are worth: means over seeds, held-out patients",
        columns=[
            "AUC",
            "95% over patients",
            "95% over seeds",
            "accuracy",
            "precision",
            "recall",
            "F1",
            "converged at round",
        ],
        rows=rows,
    )


def _confusion(parts: list[RowPart]) -> ComparedTable:
    kinds = ("true_positive", "false_negative", "false_positive", "true_negative")
    rows = [
        ComparedRow(name=_name(part), cells=[str(part.confusion.get(k, NOTHING)) for k in kinds])
        for part in parts
        if part.confusion
    ]
    return ComparedTable(
        title="Confusion matrices: held-out patients, all seeds together",
        columns=["found", "missed", "false alarms", "rightly none"],
        rows=rows,
    )


def _cost(parts: list[RowPart]) -> ComparedTable:
    rows = []
    for part in parts:
        ways = [part.cost.get(f"bytes_{way}_per_client_round") for way in ("up", "down")]
        cells = [
            number(part.epsilon_spent),
            *(NOTHING if count is None else size(count) for count in ways),
            seconds(part.cost.get("client_seconds_per_round")),
            seconds(part.cost.get("aggregate_seconds_per_round")),
        ]
        rows.append(ComparedRow(name=_name(part), cells=cells))
    return ComparedTable(
        title="What they cost: epsilon of the whole run, the rest per hospital and round",
        columns=["epsilon spent", "bytes up", "bytes down", "hospital seconds", "server seconds"],
        rows=rows,
    )


def _leakage(parts: list[RowPart]) -> ComparedTable:
    rows = [
        ComparedRow(
            name=_name(part),
            cells=[
                part.leakage.verdict or NOTHING,
                *(_gravest(part.leakage.observers.get(observer, {})) for observer in OBSERVERS),
            ],
        )
        for part in parts
        if part.leakage
    ]
    return ComparedTable(
        title="What leaks: the verdict, and the gravest figure that each observer reached",
        columns=["verdict", *OBSERVERS],
        rows=rows,
    )


def _gravest(attacks: dict[str, LeakPart]) -> str:
    """Of one observer: the attack that went furthest, by verdict and then by figure."""
    judged = [item for item in attacks.items() if item[1].verdict and item[1].value is not None]
    if not judged:
        return NOTHING
    attack, leak = max(judged, key=lambda item: (GRAVITY.index(item[1].verdict), item[1].value))
    return f"{attack} {number(leak.value)}: {leak.verdict}"


def _efficiency(part: EfficiencyPart | None) -> ComparedTable:
    shares = part.shares if part else []
    least = part.smallest_tried_share_that_reaches_it if part else None
    rows = []
    for each in shares:
        auc = each.figures.get("auc", FigurePart())
        cells = [number(auc.value), span(auc.ci95_patients), "yes" if each.share == least else ""]
        rows.append(ComparedRow(name=f"{each.share:.0%}", cells=cells))
    return ComparedTable(
        title="Trained on a share of each hospital's patients, without DP",
        columns=["AUC", "95% over patients", "least tried that reaches 95% of the AUC with all"],
        rows=rows,
    )


def _starting(part: StartingPart | None) -> ComparedTable:
    rows = part.rows if part else []
    return ComparedTable(
        title=f"The starting report ({part.note if part else ''})",
        columns=["AUC", "accuracy"],
        rows=[
            ComparedRow(name=row.name, cells=[number(row.auc), number(row.accuracy)])
            for row in rows
        ],
    )
