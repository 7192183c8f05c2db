"""Figures of a comparison: epsilon against AUC, ROC curves, and what each observer found.

Drawn from report.json alone, as the tables beside them.
"""

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from securefed.exposure import OBSERVERS
from securefed.privacy.accounting import at_most
from securefed.reporting.comparison_facts import Comparison, Interval, Leaked, RocCurve, Worth
from securefed.reporting.svg import (
    BOTTOM,
    LEFT,
    RIGHT,
    SERIES,
    TOP,
    WIDTH,
    Axis,
    frame,
    legend,
    legend_height,
    marker,
    rows_of,
    svg,
    upright_label,
)
from securefed.reporting.words import number, span

SIDE = 360
SLOT = 26  # between two rows that have no epsilon
PLOT = 230  # height of the plot of epsilon against AUC


def figures(comparison: Comparison) -> list[tuple[Markup, str]]:
    """Every figure with its caption; those without data are left out."""
    worth = (epsilon_against_auc(comparison.worth), f"AUC against epsilon. {_WORTH}")
    drawn = [(worth[0], f"{worth[1]} {comparison.interval_is}.")]
    drawn += [
        (
            rocs(curves),
            f"ROC curves{f' of {kind}' if kind else ''}, one run a line; within a seed on the same "
            "patients. The dotted line guesses.",
        )
        for kind, curves in _overlays(comparison.rocs)
    ]
    metrics = dict.fromkeys((leak.attack, leak.metric) for leak in comparison.leaks)
    drawn += [
        (
            leakage([k for k in comparison.leaks if (k.attack, k.metric) == one]),
            f"{one[0].capitalize()}, {one[1]}: what each observer reached, with its interval; the "
            "upright line is the most that the policy allows, further right is worse.",
        )
        for one in metrics
    ]
    return [(drawing, caption) for drawing, caption in drawn if drawing]


_WORTH = (
    "Rows without epsilon stand to the right of the axis: nothing bounds what leaves there. "
    "The dotted line is guessing."
)


def epsilon_against_auc(rows: Sequence[Worth]) -> Markup:
    """AUC with its interval over epsilon, on a logarithmic axis; rows without epsilon beside it."""
    rows = [row for row in rows if row.auc is not None]
    if not rows:
        return Markup("")
    private = sorted((row for row in rows if row.epsilon), key=lambda row: row.epsilon or 0.0)
    open_ones = [row for row in rows if not row.epsilon]
    kinds = list(dict.fromkeys(row.kind for row in rows if row.epsilon))
    y = Axis(_lowest(rows), 1.0, TOP + PLOT, TOP)
    edge = WIDTH - RIGHT - SLOT * len(open_ones) if private else LEFT
    parts = [rows_of(y, LEFT, WIDTH - RIGHT), _guessing(y), upright_label(y, "AUC")]
    if private:
        logs = [math.log(row.epsilon or 1.0) for row in private]
        room = 0.4 if min(logs) == max(logs) else 0.12 * (max(logs) - min(logs))
        x = Axis(min(logs) - room, max(logs) + 2 * room, LEFT, edge)
        for place, text in _epsilon_ticks(private, x):
            parts.append(
                f'<text class="tick" x="{place}" y="{y.start + 17}" text-anchor="middle">'
                f"{text}</text>"
            )
        parts.append(
            f'<text class="label" x="{(LEFT + edge) / 2}" y="{y.start + 36}" '
            'text-anchor="middle">epsilon</text>'
        )
        for row, log in zip(private, logs, strict=True):
            # Side by side where two have spent the same.
            at = x.place(log) + 9 * (kinds.index(row.kind) - (len(kinds) - 1) / 2)
            parts.append(_point(row, kinds.index(row.kind), at, y))
    step = SLOT if private else (WIDTH - RIGHT - LEFT) / len(open_ones)
    for place, row in enumerate(open_ones):
        at = edge + step * (place + 0.5)
        parts.append(_point(row, 4 if row.baseline else 3, at, y))
        parts.append(
            f'<text class="tick" transform="translate({at + 4:g} {y.start + 10:g}) rotate(-90)" '
            f'text-anchor="end">{escape(row.row)}</text>'
        )
    if private and open_ones:
        parts.append(f'<line class="grid" x1="{edge}" x2="{edge}" y1="{TOP}" y2="{y.start}"/>')
    longest = max((len(row.row) for row in open_ones), default=0)
    bottom = y.start + max(BOTTOM, 22 + 7.2 * longest)
    height = bottom
    if kinds:
        parts.append(legend(kinds, bottom + 8))
        height += legend_height(kinds) + 4
    about = "; ".join(
        f"{row.row}: {f'epsilon {at_most(row.epsilon)}' if row.epsilon else 'no epsilon'}, AUC "
        f"{number(row.auc)} ({span(row.interval)})"
        for row in [*private, *open_ones]
    )
    return svg("Epsilon against AUC", about, "".join(parts), WIDTH, math.ceil(height))


def _lowest(rows: Sequence[Worth]) -> float:
    values = [v for row in rows for v in (row.auc, *(row.interval or ())) if v is not None]
    lowest: float = min([0.5, *values])
    return max(0.0, math.floor(10 * lowest) / 10)


def _guessing(y: Axis) -> str:
    at = y.place(0.5)
    return f'<line class="guess" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>'


def _epsilon_ticks(rows: Sequence[Worth], x: Axis) -> list[tuple[float, str]]:
    ticks: list[tuple[float, str]] = []
    for row in rows:
        at = x.place(math.log(row.epsilon or 1.0))
        if not ticks or at - ticks[-1][0] > 44:
            ticks.append((at, at_most(row.epsilon)))
    return ticks


def _point(row: Worth, series: int, x: float, y: Axis) -> str:
    low, high = _ends(row.interval, row.auc or 0.0)
    return (
        f'<line class="curve{series}" x1="{x:g}" x2="{x:g}" y1="{y.place(low)}" '
        f'y2="{y.place(high)}"/>{marker(series, x, y.place(row.auc or 0.0))}'
    )


def _ends(interval: Interval | None, value: float) -> tuple[float, float]:
    low, high = interval or (value, value)
    return max(0.0, low or 0.0), min(1.0, 1.0 if high is None else high)


def _overlays(curves: Sequence[RocCurve]) -> list[tuple[str, list[RocCurve]]]:
    """All in one where lines can still be told apart; else those without epsilon in one, and each
    private configuration in another, beside the first of them."""
    if len({curve.row for curve in curves}) <= SERIES:
        return [("", list(curves))] if curves else []
    exact = [curve for curve in curves if "dp" not in curve.kind]
    beside = [curve for curve in exact if curve.row == exact[0].row]
    private = dict.fromkeys(curve.kind for curve in curves if "dp" in curve.kind)
    overlays = [("no DP", exact)] if exact else []
    return overlays + [
        (kind, beside + [curve for curve in curves if curve.kind == kind]) for kind in private
    ]


def rocs(curves: Sequence[RocCurve]) -> Markup:
    """ROC curves over each other, one colour and dash a row; seeds of a row alike."""
    rows = list(dict.fromkeys(curve.row for curve in curves))
    x, y = Axis(0, 1, LEFT, SIDE - RIGHT), Axis(0, 1, SIDE - BOTTOM, TOP)
    parts = [
        frame(x, y, "false alarms (1 - specificity)", "sensitivity", SIDE, SIDE),
        f'<line class="guess" x1="{x.start}" y1="{y.start}" x2="{x.end}" y2="{y.end}"/>',
    ]
    for curve in curves:
        path = " ".join(f"{x.place(false)},{y.place(true)}" for false, true in curve.roc)
        parts.append(
            f'<polyline class="curve{rows.index(curve.row) % SERIES}" points="{path}">'
            f"<title>{escape(curve.row)}, seed {curve.seed}</title></polyline>"
        )
    parts.append(legend(rows, SIDE + 8, lines=True))
    height = SIDE + math.ceil(legend_height(rows)) + 4
    about = f"{len(curves)} curves: {', '.join(rows)}. The table beside has their values."
    return svg("ROC curves", about, "".join(parts), WIDTH, height)


def leakage(leaks: Sequence[Leaked]) -> Markup:
    """One metric: rows of the comparison, in each a line for every observer."""
    measured = [leak for leak in leaks if leak.value is not None]
    if not measured:
        return Markup("")
    rows = list(dict.fromkeys(leak.row for leak in leaks))
    line, gap, left = 17, 30, 16
    step = gap + line * len(OBSERVERS)
    height = TOP + step * len(rows) + 26
    ends = [_ends(leak.interval, leak.value or 0.0)[1] for leak in measured]
    furthest = max([*ends, *(leak.threshold or 0.0 for leak in measured)])
    x = Axis(0, min(1.0, 1.1 * furthest) or 1.0, left, WIDTH - RIGHT)
    parts = []
    for tick in x.ticks():
        at = x.place(tick)
        parts.append(
            f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{height - 26}"/>'
            f'<text class="tick" x="{at}" y="{height - 9}" text-anchor="middle">{tick:g}</text>'
        )
    for place, row in enumerate(rows):
        top = TOP + step * place
        parts.append(f'<text class="label" x="{left}" y="{top + 13}">{escape(row)}</text>')
        limits = [leak.threshold for leak in measured if leak.row == row and leak.threshold]
        if limits:
            at = x.place(min(1.0, limits[0]))
            parts.append(
                f'<line class="bound" x1="{at}" x2="{at}" y1="{top + 18}" y2="{top + step - 8}"/>'
            )
        for leak in leaks:
            if leak.row == row:
                at = top + gap + line * OBSERVERS.index(leak.observer)
                parts.append(_leak(leak, OBSERVERS.index(leak.observer), x, at))
    parts.append(legend(OBSERVERS, height + 8, left=left))
    about = "; ".join(
        f"{leak.row}, {leak.observer}: "
        + (f"{number(leak.value)} ({span(leak.interval)})" if leak.value is not None else "none")
        + (f", {leak.verdict}" if leak.verdict else "")
        for leak in leaks
    )
    whole = height + math.ceil(legend_height(OBSERVERS, left=left)) + 4
    title = f"What each observer reached: {leaks[0].attack}, {leaks[0].metric}"
    return svg(title, about, "".join(parts), WIDTH, whole)


def _leak(leak: Leaked, series: int, x: Axis, y: float) -> str:
    if leak.value is None:
        return (
            f'<text class="tick" x="{x.start + 4}" y="{y + 4:g}">{escape(leak.observer)}: not '
            "measured</text>"
        )
    low, high = _ends(leak.interval, leak.value)
    return (
        f'<line class="curve{series}" x1="{x.place(low)}" x2="{x.place(high)}" y1="{y:g}" '
        f'y2="{y:g}"/>{marker(series, x.place(min(1.0, leak.value)), y)}'
    )
