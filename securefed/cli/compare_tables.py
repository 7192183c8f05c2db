"""The tables of `securefed compare` on the terminal; compare.json holds all of it and more."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

OBSERVERS = ("server", "peer", "coalition", "outsider")
COLOURS = {"PASS": "green", "FAIL": "red", "INVALID": "magenta", "INCONCLUSIVE": "yellow"}

AUCS = ("auc", "mean_auc")

Justify = Literal["left", "right"]


def tables(found: dict[str, Any]) -> Iterator[Group]:
    """What a comparison found, from the content of compare.json."""
    yield _configurations(found)
    yield _performance(found)
    yield _answers(found)
    if found["audit_effort"]:
        yield _leakage(found)
    if found["data_efficiency"]:
        yield _data_efficiency(found["data_efficiency"])
    yield _starting_report(found["starting_report"])


def _configurations(found: dict[str, Any]) -> Group:
    columns = ["", "AUC", "95% CI", "epsilon", "kB up/down", "seconds", "run s"]
    audited = bool(found["audit_effort"])
    table = _table([*columns, "audit"] if audited else columns)
    for row in found["configurations"]:
        cost, leakage = row["cost"], row["leakage"]
        bytes_ = [cost[f"bytes_{way}_per_client_round"] for way in ("up", "down")]
        cells = [
            _figure(row["figures"]["auc"]["value"]),
            _auc_interval(row),
            _figure(row["epsilon_spent"], 2),
            "/".join(_figure(each and each / 1000, 1) for each in bytes_),
            f"{_figure(cost['client_seconds_per_round'], 2)}"
            f"/{_figure(cost['aggregate_seconds_per_round'], 3)}",
            _figure(cost["wall_seconds"], 0),
        ]
        if audited:
            cells.append(_verdict(leakage["verdict"]) if leakage else "-")
        table.add_row(row["name"], *cells)
    seeds = len(found["seeds"])
    kind = f"mean of {seeds} seeds, Student's t" if seeds > 1 else "one seed, Newcombe's interval"
    return _under(
        f"configurations (AUC: {kind})",
        table,
        f"epsilon: largest over hospitals and seeds, at delta {found['delta']:g} per "
        f"{found['privacy_unit']}, {found['adjacency']} adjacency, "
        f"{found['accountant'].upper()}; kB (up/down) and seconds (client/"
        "server) per client and round, medians",
    )


def _performance(found: dict[str, Any]) -> Group:
    columns = ("", "AUC", "each own", "accuracy", "precision", "recall", "F1")
    table = _table(columns)
    for row, name in _rows(found):
        kinds = (*AUCS, "accuracy", "precision", "recall", "f1")
        cells = [_with_interval(row["figures"][kind]) for kind in kinds]
        if row["auc_is"] != "auc":
            cells[0] = "-"  # scores of different models have no common scale
        table.add_row(name, *cells, end_section=row is found["configurations"][-1])
    remarks = [f"{row['name']}: {row['remark']}" for row in found["baselines"]]
    return _under(
        "held-out patients, 95% bootstrap intervals over patients",
        table,
        "each own: mean over hospitals of the AUC on their own patients; the configurations fuse "
        "by cross-attention",
        *dict.fromkeys(remarks),
        *([f"no baselines: {found['baselines_refused']}"] if found["baselines_refused"] else []),
    )


def _answers(found: dict[str, Any]) -> Group:
    keys = ("true_positive", "false_negative", "false_positive", "true_negative")
    table = _table(("", "found", "missed", "false alarm", "rightly none", "converged"))
    for row, name in _rows(found):
        cells = [str(row["confusion"][key]) for key in keys]
        table.add_row(
            name,
            *cells,
            _figure(row["convergence_round"], 0),
            end_section=row is found["configurations"][-1],
        )
    return _under(
        "confusion matrices (patients, all seeds together) and convergence",
        table,
        "converged: finished rounds when the AUC was within .01 of the final one to stay, median "
        f"over seeds, evaluated every {found['settings']['federation']['evaluate_every']} rounds",
    )


def _rows(found: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    for row in found["configurations"]:
        yield row, row["name"]
    for row in found["baselines"]:
        yield row, f"{row['name']}, {row['privacy']}"


def _with_interval(figure: dict[str, Any]) -> str:
    return f"{_figure(figure['value'])}\n{_limits(figure['ci95_patients'])}"


def _leakage(found: dict[str, Any]) -> Group:
    table = _table(("", "attack", *OBSERVERS), names=2)
    for row in found["configurations"]:
        observers = row["leakage"]["observers"] if row["leakage"] else {}
        attacks = sorted({attack for each in observers.values() for attack in each})
        for place, attack in enumerate(attacks):
            cells = [_cell(observers.get(name, {}).get(attack)) for name in OBSERVERS]
            if attack in (everyone := observers.get("any", {})):
                cells[0] = "\n".join(filter(None, (cells[0], _cell(everyone[attack]))))
            last = place == len(attacks) - 1
            table.add_row("" if place else row["name"], attack, *cells, end_section=last)
    return _under(
        "what each observer found: the gravest figure of each attack over all seeds",
        table,
        "figure (the policy's threshold); -: not judged, or nothing to attack; audit.json of a run "
        "has all, with intervals and reasons",
    )


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    if found["value"] is None:
        return _verdict(found["verdict"])
    threshold = f" ({found['threshold']:.3g})" if found["threshold"] is not None else ""
    return f"{_verdict(found['verdict'])}\n{found['value']:.3g}{threshold}"


def _data_efficiency(found: dict[str, Any]) -> Group:
    table = _table(("patients", "AUC", "95% CI"))
    for row in found["shares"]:
        auc = row["figures"]["auc"]
        table.add_row(f"{row['share']:.0%}", _figure(auc["value"]), _limits(auc["ci95_patients"]))
    least, tried = found["smallest_tried_share_that_reaches_it"], found["shares"][0]["share"]
    remark = "95% of the AUC with all of them cannot be told"
    if found["target"] is not None and least is not None:
        remark = f"{least:.0%} reach 95% of the AUC with all of them ({found['target']:.3f})"
        remark += "; fewer were not tried" if least == tried else ""
    return _under("trained on a share of each hospital's patients, without DP", table, remark)


def _starting_report(report: dict[str, Any]) -> Group:
    table = _table(("", "AUC", "accuracy"))
    for row in report["rows"]:
        table.add_row(row["name"], f"{row['auc']:.2f}", f"{row['accuracy']:.2f}")
    return _under(
        f"the report this project starts from ({report['note']})",
        table,
        f"{report['hospitals']} hospitals, {report['pairs']:,} pairs, {report['rounds']} rounds; "
        f"{report['megabytes_per_client_round']} MB and {report['client_minutes_per_round']} "
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


def _under(title: str, table: Table, *remarks: str) -> Group:
    lines = [Text(remark, style="dim") for remark in remarks]
    return Group("", Text(title, style="bold"), table, *lines)


def _auc_interval(row: dict[str, Any]) -> str:
    over_seeds = row["figures"]["auc"]["ci95_seeds"]
    newcombe = row["auc_newcombe_ci95"][0] if len(row["seeds"]) == 1 else None
    return _limits(over_seeds or newcombe)


def _limits(interval: list[float] | None) -> str:
    return f"{interval[0]:.2f}-{interval[1]:.2f}" if interval else "-"


def _figure(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _verdict(verdict: str | None) -> str:
    if verdict is None:
        return "-"
    return f"[{COLOURS.get(verdict, 'red')}]{escape(verdict)}[/]"
