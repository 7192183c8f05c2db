"""The tables of `securefed compare` on the terminal; compare.json holds all of it and more."""

from collections.abc import Iterator, Sequence
from typing import Literal

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from securefed.cli.screen import Narrowing, marked
from securefed.exposure import OBSERVERS
from securefed.privacy.accounting import at_least, at_most
from securefed.record.comparison import (
    CompareFile,
    ConfigurationRow,
    DataEfficiency,
    Figure,
    Interval,
    Leak,
    Row,
    StartingReport,
)
from securefed.reporting.compared import row_cautions
from securefed.reporting.words import number
from securefed.verdict import Verdict

Justify = Literal["left", "right"]


def tables(compared: CompareFile) -> Iterator[Group]:
    """What a comparison came to."""
    yield _configurations(compared)
    yield _performance(compared)
    several = any(row.classes for row in compared.rows)
    yield _classes(compared) if several else _answers(compared)
    if compared.audit_effort:
        yield _leakage(compared)
    if compared.data_efficiency:
        yield _data_efficiency(compared.data_efficiency)
    yield _starting_report(compared.starting_report)


def _configurations(compared: CompareFile) -> Group:
    columns = ["", "AUC", "95% CI", "epsilon", "kB up/down", "seconds", "run s"]
    audited = bool(compared.audit_effort)
    table = _table([*columns, "audit"] if audited else columns)
    expendable = ("run s", "seconds", "kB up/down", "95% CI")
    for row in compared.configurations:
        cost = row.cost
        traffic = (cost.bytes_up_per_client_round, cost.bytes_down_per_client_round)
        cells: list[str | Text] = [
            _figure(row.figures.auc.value),
            _auc_interval(row),
            _spent(row),
            "/".join(_figure(each and each / 1000, 1) for each in traffic),
            f"{_figure(cost.client_seconds_per_round, 2)}"
            f"/{_figure(cost.aggregate_seconds_per_round, 3)}",
            _figure(cost.wall_seconds, 0),
        ]
        if audited:
            cells.append(_verdict(row.leakage.verdict if row.leakage else None))
        table.add_row(row.title, *cells)
    seeds = len(compared.seeds)
    kind = f"mean of {seeds} seeds, Student's t" if seeds > 1 else "one seed, Newcombe's interval"
    return _under(
        f"configurations (AUC: {kind})",
        Narrowing(table, expendable),
        f"epsilon: largest over hospitals and seeds, at delta {compared.delta:g} per "
        f"{compared.privacy_unit}, {compared.adjacency} adjacency, "
        f"{compared.accountant.upper()}; kB (up/down) and seconds (client/"
        "server) per client and round, medians",
    )


def _spent(row: ConfigurationRow) -> str:
    """Epsilon, or why there is none."""
    return "seeded noise" if row.noise == "seeded" else at_most(row.epsilon_spent)


def _performance(compared: CompareFile) -> Group:
    columns = ("", "AUC", "each own", "accuracy", "precision", "recall", "F1")
    table = _table(columns)
    for row in compared.rows:
        own = row.figures
        shown = (own.auc, own.mean_auc, own.accuracy, own.precision, own.recall, own.f1)
        cells = [_with_interval(figure) for figure in shown]
        if row.auc_is != "auc":
            cells[0] = "-"  # scores of different models have no common scale
        table.add_row(row.title, *cells, end_section=row is compared.configurations[-1])
    remarks = [f"{row.name}: {row.remark}" for row in compared.baselines]
    refused = compared.baselines_refused
    return _under(
        "held-out patients, 95% bootstrap intervals over patients",
        Narrowing(table, ("F1", "recall", "precision", "accuracy", "each own")),
        "each own: mean over hospitals of the AUC on their own patients; the configurations fuse "
        "by cross-attention",
        *dict.fromkeys(remarks),
        *([f"no baselines: {refused}"] if refused else []),
    )


def _answers(compared: CompareFile) -> Group:
    table = _table(("", "found", "missed", "false alarm", "rightly none", "converged"))
    for row in compared.rows:
        said = row.confusion
        if said is None:
            continue
        counts = (said.true_positive, said.false_negative, said.false_positive, said.true_negative)
        table.add_row(
            row.title,
            *(number(count, 1) for count in counts),
            _figure(row.convergence_round, 0),
            end_section=row is compared.configurations[-1],
        )
    return _under(
        "confusion matrices (patients, all seeds together) and convergence",
        table,
        "converged: finished rounds when the AUC was within .01 of the final one to stay, median "
        f"over seeds, evaluated every {compared.settings['federation']['evaluate_every']} rounds",
        *row_cautions(compared),
    )


def _classes(compared: CompareFile) -> Group:
    names = [one.name for one in next(iter(compared.rows)).classes]
    table = _table(("", "class", "AUC", *(f"called {name}" for name in names)), names=2)
    for row in compared.rows:
        for one in row.classes:
            counts = (number(count, 1) for count in one.called)
            title = row.title if one is row.classes[0] else ""
            last = one is row.classes[-1]
            table.add_row(title, one.name, _with_interval(one.auc), *counts, end_section=last)
    return _under(
        "each class against the rest, and what its patients were called (all seeds together)",
        table,
        *row_cautions(compared),
    )


def _with_interval(figure: Figure) -> str:
    return f"{_figure(figure.value)}\n{_limits(figure.ci95_patients)}"


def _leakage(compared: CompareFile) -> Group:
    table = _table(("", "attack", *OBSERVERS), names=2)
    for row in compared.configurations:
        observers = row.leakage.observers if row.leakage else {}
        attacks = sorted({attack for leaks in observers.values() for attack in leaks})
        for place, attack in enumerate(attacks):
            cells = [_cell(observers.get(name, {}).get(attack)) for name in OBSERVERS]
            if attack in (everyone := observers.get("any", {})):
                parts = (cells[0], _cell(everyone[attack]))
                cells[0] = Text("\n").join(part for part in parts if part)
            last = place == len(attacks) - 1
            table.add_row("" if place else row.title, attack, *cells, end_section=last)
    return _under(
        "what each observer found: the gravest figure of each attack over all seeds",
        table,
        "figure (the policy's threshold); -: not judged, or nothing to attack; audit.json of a run "
        "has all, with intervals and reasons",
    )


def _cell(leak: Leak | None) -> Text:
    if leak is None:
        return Text()
    if leak.value is None:
        return _verdict(leak.verdict)
    upper, lower = (at_most, at_least) if leak.of_epsilon else (_short, _short)
    threshold = "" if leak.threshold is None else f" ({upper(leak.threshold)})"
    return _verdict(leak.verdict) + f"\n{lower(leak.value)}{threshold}"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _data_efficiency(efficiency: DataEfficiency) -> Group:
    table = _table(("patients", "AUC", "95% CI"))
    for row in efficiency.shares:
        auc = row.figures.auc
        table.add_row(f"{row.share:.0%}", _figure(auc.value), _limits(auc.ci95_patients))
    least = efficiency.smallest_tried_share_that_reaches_it
    remark = "95% of the AUC with all of them cannot be told"
    if efficiency.target is not None and least is not None:
        remark = f"{least:.0%} reach 95% of the AUC with all of them ({efficiency.target:.3f})"
        remark += "; fewer were not tried" if least == efficiency.shares[0].share else ""
    return _under("trained on a share of each hospital's patients, without DP", table, remark)


def _starting_report(report: StartingReport) -> Group:
    table = _table(("", "AUC", "accuracy"))
    for row in report.rows:
        table.add_row(row.name, f"{row.auc:.2f}", f"{row.accuracy:.2f}")
    return _under(
        "printed in the report this project starts from; nothing of it was measured here",
        table,
        f"{report.note}; {report.hospitals} hospitals, {report.pairs:,} pairs, {report.rounds} "
        f"rounds; {report.megabytes_per_client_round:g} MB and {report.client_minutes_per_round:g} "
        "minutes per client and round",
    )


def _table(columns: Sequence[str], names: int = 1) -> Table:
    """An empty table; the first `names` columns are words, the others figures."""
    # Nothing between the columns but a blank: nine of them have to fit into 80 characters.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for place, column in enumerate(columns):
        justify: Justify = "left" if place < names else "right"
        table.add_column(column, justify=justify)
    return table


def _under(title: str, table: Table | Narrowing, *remarks: str) -> Group:
    lines = [Text(remark, style="dim") for remark in remarks]
    return Group("", Text(title, style="bold"), table, *lines)


def _auc_interval(row: Row) -> str:
    over_seeds = row.figures.auc.ci95_seeds
    newcombe = row.auc_newcombe_ci95[0] if len(row.seeds) == 1 else None
    return _limits(over_seeds or newcombe)


def _limits(interval: Interval | None) -> str:
    return f"{interval[0]:.2f}-{interval[1]:.2f}" if interval else "-"


def _figure(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _verdict(verdict: Verdict | None) -> Text:
    return marked(verdict, otherwise="-")
