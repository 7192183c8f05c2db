"""The part of report.json that is about a comparison: compare.json as tables and for figures."""

import msgspec

from securefed.verdict import Verdict

Interval = tuple[float | None, float | None]


class ComparedRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of a comparison; numbers as text where a unit or interval goes with them."""

    name: str
    cells: list[str]


class ComparedTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows side by side; every row has a cell for each column. `note` says what to know of it."""

    title: str
    columns: list[str]
    rows: list[ComparedRow]
    note: str = ""


class Worth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a row's models are worth: AUC with its 95% interval, against epsilon.

    `epsilon`: the largest spent; null where nothing bounds what leaves. `baseline`: it is no
    configuration of the federation. `verdict`: the gravest of its audits; null without one.
    """

    row: str
    kind: str
    baseline: bool
    verdict: Verdict | None
    epsilon: float | None
    auc: float | None
    interval: Interval | None


class RocCurve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ROC curve of one run, as (false-, true-positive rate)."""

    row: str
    kind: str
    seed: int
    roc: tuple[tuple[float, float], ...]


class Leaked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The gravest figure of one metric that one observer reached in a row's runs, over all seeds.

    `value` is null where nothing could be measured; `reason` says why.
    """

    row: str
    attack: str
    metric: str
    observer: str
    value: float | None
    interval: Interval | None
    threshold: float | None
    verdict: Verdict | None
    reason: str


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """compare.json as tables (performance, confusion, cost, leakage, shares), and for figures.

    `interval_is` says what the intervals of `worth` are over. `leaks` are of the runs' own audits.
    `starting_report` was printed elsewhere and is not part of the comparison.
    """

    tables: list[ComparedTable]
    notes: list[str]
    interval_is: str
    worth: list[Worth]
    rocs: list[RocCurve]
    leaks: list[Leaked]
    starting_report: ComparedTable
