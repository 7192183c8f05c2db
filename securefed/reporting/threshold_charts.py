"""Charts of what a model is worth at thresholds: reliability, net benefit, groups in a row.

Of an evaluation (evaluation_page) and of a run's held-out patients (charts of its report) alike.
"""

from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup, escape

from securefed.record.evaluation import Bin, Group, NetBenefit
from securefed.reporting.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Points,
    frame,
    legend,
    legend_height,
    svg,
)
from securefed.reporting.words import number, span

SIDE = 300
ABOVE = 1.3  # times the highest line, that is drawn
BELOW = 0.25  # of the height above zero, that is drawn below it
CURVES = ("the model", "treat everybody", "treat nobody")


def reliability(bins: Sequence[Bin]) -> Markup:
    """Observed shares with their intervals over predicted probabilities; open: calibrated ones."""
    if not bins:
        return Markup("")
    x, y = Axis(0, 1, LEFT, SIDE - RIGHT), Axis(0, 1, SIDE - BOTTOM, TOP)
    parts = [
        frame(x, y, "predicted probability", "observed share", SIDE, SIDE),
        f'<line class="guess" x1="{x.start}" y1="{y.start}" x2="{x.end}" y2="{y.end}"/>',
    ]
    for each in bins:
        at, (low, high) = x.place(each.predicted), map(y.place, each.ci95)
        parts.append(
            f'<line class="whisker" x1="{at}" x2="{at}" y1="{low}" y2="{high}"/>'
            f'<circle class="dot" cx="{at}" cy="{y.place(each.observed)}" r="5"/>'
        )
        if each.calibrated is not None:
            at = x.place(each.calibrated)
            parts.append(f'<circle class="open" cx="{at}" cy="{y.place(each.observed)}" r="5"/>')
    about = "; ".join(
        f"of {each.patients:g} patients at {number(each.predicted)} "
        + (f"(calibrated {number(each.calibrated)}) " if each.calibrated is not None else "")
        + f"{number(each.observed)} ({span(each.ci95)}) are ill"
        for each in bins
    )
    return svg("Reliability diagram", about, "".join(parts), SIDE, SIDE, "chart square")


def net_benefit(curve: Sequence[NetBenefit]) -> Markup:
    """The decision curve with its interval, between treating everybody and treating nobody."""
    if not curve:
        return Markup("")
    # The interval may be far wider at thresholds near 1; the lines are what is looked for.
    high = ABOVE * max([0.04, *(each.model for each in curve), *(each.treat_all for each in curve)])
    low = -BELOW * high
    height = HEIGHT + legend_height(CURVES)
    x, y = Axis(0, 1, LEFT, WIDTH - RIGHT), Axis(low, high, HEIGHT - BOTTOM, TOP)
    lines = [
        [(each.threshold, each.model) for each in curve],
        [(each.threshold, each.treat_all) for each in curve],
        [(0.0, 0.0), (1.0, 0.0)],
    ]
    edge = [(each.threshold, each.ci95[1]) for each in curve]
    edge += [(each.threshold, each.ci95[0]) for each in reversed(curve)]
    band = " ".join(f"{x.place(at)},{y.place(min(high, max(low, value)))}" for at, value in edge)
    parts = [
        frame(x, y, "threshold probability", "net benefit", WIDTH, HEIGHT),
        f'<polygon class="band" points="{band}"/>',
    ]
    for series, line in enumerate(lines):
        path = " ".join(f"{x.place(at)},{y.place(value)}" for at, value in _above(line, low))
        parts.append(f'<polyline class="curve{series}" points="{path}"/>')
    parts.append(legend(CURVES, HEIGHT + 8, lines=True))
    about = "; ".join(
        f"at {each.threshold:.2g} the model {number(each.model)} ({span(each.ci95)}), "
        f"everybody {number(each.treat_all)}"
        for each in curve
    )
    return svg("Decision curve", about, "".join(parts), WIDTH, int(height))


def _above(points: Points, low: float) -> list[tuple[float, float]]:
    """A line as far as it lies above `low`."""
    shown = [each for each in points[:1] if each[1] >= low]
    for before, after in pairwise(points):
        if (before[1] < low) != (after[1] < low):
            part = (low - before[1]) / (after[1] - before[1])
            shown.append((before[0] + part * (after[0] - before[0]), low))
        if after[1] >= low:
            shown.append(after)
    return shown


def aucs(groups: Sequence[Group]) -> Markup:
    """The AUC of each group with its interval, one below the other."""
    rows = [(each, each.figures) for each in groups if each.figures]
    if len(rows) < 2:
        return Markup("")
    left, step = 16, 40
    height = TOP + step * len(rows) + BOTTOM
    x = Axis(0, 1, left, WIDTH - RIGHT)
    half = x.place(0.5)
    parts = [f'<line class="guess" x1="{half}" x2="{half}" y1="{TOP}" y2="{height - BOTTOM}"/>']
    for tick in x.ticks():
        at = x.place(tick)
        parts.append(
            f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{height - BOTTOM}"/>'
            f'<text class="tick" x="{at}" y="{height - 24}" text-anchor="middle">{tick:g}</text>'
        )
    for place, (group, figures) in enumerate(rows):
        at = TOP + step * place + 28
        low, high = map(x.place, figures.auc_ci95)
        parts.append(
            f'<text class="label" x="{left}" y="{at - 13}">{escape(name_of(group))}</text>'
            f'<line class="whisker" x1="{low}" x2="{high}" y1="{at}" y2="{at}"/>'
            f'<circle class="dot" cx="{x.place(figures.auc)}" cy="{at}" r="5"/>'
        )
    parts.append(
        f'<text class="label" x="{WIDTH / 2}" y="{height - 6}" text-anchor="middle">AUC</text>'
    )
    about = "; ".join(
        f"{name_of(group)} {number(figures.auc)} ({span(figures.auc_ci95)})"
        for group, figures in rows
    )
    return svg("AUC of each group", about, "".join(parts), WIDTH, height)


def name_of(group: Group) -> str:
    """What a page calls a group."""
    return "all patients" if group.column == "all" else f"{group.column}: {group.value}"
