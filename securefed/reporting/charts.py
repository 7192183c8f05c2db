"""Charts of one run: training over rounds, the ROC curve, attacks against thresholds, egress."""

from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from securefed.privacy.accounting import at_most
from securefed.record.audit import Judgement
from securefed.record.metrics import RoundLine
from securefed.reporting.facts import Egress
from securefed.reporting.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    LETTER,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Points,
    frame,
    svg,
)
from securefed.reporting.words import number, size, span
from securefed.verdict import Verdict


def over_rounds(
    points: Points,
    label: str,
    title: str,
    bounds: tuple[float, float] | None,
    line: float | None,
    text: Callable[[float], str] = number,
) -> Markup:
    """One value over rounds, with an optional horizontal line (a budget, guessing).

    Args:
        text: a value in words, for screen readers.
    """
    if not points:
        return Markup("")
    values = [value for _, value in points] + ([line] if line is not None else [])
    low, high = bounds or (0.0, max(values) * 1.08 or 1.0)
    x = Axis(0, max(max(k for k, _ in points), 1), LEFT, WIDTH - RIGHT, whole=True)
    y = Axis(min(low, *values), high, HEIGHT - BOTTOM, TOP)
    path = " ".join(f"{x.place(k)},{y.place(v)}" for k, v in points)
    radius = 3 if len(points) < 40 else 2
    marks = "".join(
        f'<circle class="dot" cx="{x.place(k)}" cy="{y.place(v)}" r="{radius}"/>' for k, v in points
    )
    extra = ""
    if line is not None:
        at = y.place(line)
        extra = f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>'
    first, last = points[0], points[-1]
    about = (
        f"{title}: from {text(first[1])} at round {first[0]:g} to {text(last[1])} at round "
        f"{last[0]:g}." + (f" Line at {text(line)}." if line is not None else "")
    )
    body = frame(x, y, "round", label) + extra + f'<polyline class="line" points="{path}"/>' + marks
    return svg(title, about, body, WIDTH, HEIGHT)


def training(
    curve: Sequence[RoundLine], rounds: int, budget: float | None = None
) -> list[tuple[Markup, str]]:
    """AUC, loss and epsilon over rounds, whichever were recorded.

    Args:
        rounds: of training; what comes after them scores, and spends nothing.
    """
    # An evaluation describes the parameters its round started from.
    auc = [(k.round - 1, k.auc) for k in curve if k.auc is not None]
    loss = [(k.round - 1, k.loss) for k in curve if k.loss is not None]
    spent = [(k.round, k.epsilon) for k in curve if k.epsilon is not None and k.round <= rounds]
    lowest = min((value for _, value in auc), default=0.5)
    if len(auc) < 2 and spent:
        auc = []  # scored once, at the end: a point is no curve
    charts = [
        (
            over_rounds(auc, "AUC", "AUC over rounds", (min(0.4, lowest), 1.0), 0.5),
            "AUC on held-out patients; the dashed line is guessing.",
        ),
        (
            over_rounds(loss, "loss, nats", "Held-out loss over rounds", None, None),
            "Mean cross-entropy on held-out patients.",
        ),
        (
            over_rounds(spent, "epsilon", "Epsilon spent over rounds", None, budget, at_most),
            "Largest epsilon of all ledgers; the dashed line is the budget.",
        ),
    ]
    return [(chart, caption) for chart, caption in charts if chart]


def stacked(charts: Sequence[Markup]) -> str:
    """Charts of the usual size one below the other, as an SVG file of its own."""
    height = HEIGHT * len(charts)
    placed = (
        str(chart).replace(
            "<svg ", f'<svg y="{place * HEIGHT}" width="{WIDTH}" height="{HEIGHT}" ', 1
        )
        for place, chart in enumerate(charts)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif"><rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
        f"{''.join(placed)}</svg>\n"
    )


def sensitivity_at(roc: Points, alarms: float) -> float:
    """The share of ill patients found at a false alarm rate; between corners on the line."""
    before = max(corner for corner in roc if corner[0] <= alarms)
    after = min((corner for corner in roc if corner[0] > alarms), default=before)
    if after[0] == before[0]:
        return before[1]
    return before[1] + (after[1] - before[1]) * (alarms - before[0]) / (after[0] - before[0])


def roc(
    corners: Points | None,
    auc: float | None,
    sensitivity: float | None,
    specificity: float | None,
    where: str = "at probability one half",
) -> Markup:
    """The ROC curve with the operating point, and in words where that is."""
    if not corners or sensitivity is None or specificity is None:
        return Markup("")
    side = 300
    x = Axis(0, 1, LEFT, side - RIGHT)
    y = Axis(0, 1, side - BOTTOM, TOP)
    alarm = 1 - specificity
    path = " ".join(f"{x.place(false)},{y.place(true)}" for false, true in corners)
    body = (
        frame(x, y, "false alarms (1 - specificity)", "sensitivity", side, side)
        + f'<line class="guess" x1="{x.start}" y1="{y.start}" x2="{x.end}" y2="{y.end}"/>'
        + f'<polyline class="line" points="{path}"/>'
        + f'<circle class="dot" cx="{x.place(alarm)}" cy="{y.place(sensitivity)}" r="6"/>'
    )
    about = (
        f"ROC curve with area {number(auc)}; {where} sensitivity {number(sensitivity)} at false "
        f"alarm rate {number(alarm)}."
    )
    return svg("ROC curve", about, body, side, side, "chart square")


def forest(judgements: Sequence[Judgement]) -> Markup:
    """Intervals against thresholds, one row per figure between 0 and 1 that decides."""
    rows = [
        line
        for line in judgements
        if line.decides
        and line.value is not None
        and line.threshold is not None
        and line.threshold <= 1
        and not line.of_epsilon
    ]
    if not rows:
        return Markup("")
    left, step = 16, 40
    height = TOP + step * len(rows) + BOTTOM
    x = Axis(0, 1, left, WIDTH - RIGHT)
    parts = []
    for tick in x.ticks():
        at = x.place(tick)
        parts.append(
            f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{height - BOTTOM}"/>'
            f'<text class="tick" x="{at}" y="{height - 24}" text-anchor="middle">{tick:g}</text>'
        )
    for i, row in enumerate(rows):
        at = TOP + step * i + 28
        low, high = row.interval or (row.value, row.value)
        ends = [x.place(min(1.0, max(0.0, v))) for v in (low or 0.0, 1.0 if high is None else high)]
        limit = x.place(min(1.0, row.threshold or 0.0))
        label = f"{row.observer or 'any'} · {row.attack}: {row.metric or row.method}"
        parts.append(
            f'<text class="label" x="{left}" y="{at - 13}">{escape(label)}</text>'
            f'<line class="whisker {_kind(row.verdict)}" x1="{ends[0]}" x2="{ends[1]}" '
            f'y1="{at}" y2="{at}"/>'
            f'<circle class="dot {_kind(row.verdict)}" cx="{x.place(row.value or 0.0)}" '
            f'cy="{at}" r="5"/>'
            f'<line class="bound" x1="{limit}" x2="{limit}" y1="{at - 9}" y2="{at + 9}"/>'
        )
    parts.append(
        f'<text class="label" x="{WIDTH / 2}" y="{height - 6}" text-anchor="middle">'
        "figure, interval; upright: threshold</text>"
    )
    about = "; ".join(
        f"{row.attack}, {row.title}, {row.observer or 'any'}: {number(row.value)} "
        f"({span(row.interval)}), threshold {number(row.threshold)}"
        for row in rows
    )
    return svg("Attack figures against their thresholds", about, "".join(parts), WIDTH, height)


def egress_bars(egress: Egress) -> Markup:
    """Bytes that left each hospital, one bar each, split by stage."""
    names = sorted({flow.hospital for flow in egress.flows})
    stages = list(dict.fromkeys(flow.stage for flow in egress.flows))
    totals = {n: sum(f.bytes for f in egress.flows if f.hospital == n) for n in names}
    most = max(totals.values(), default=0)
    if not most:
        return Markup("")
    left, step = 8, 44
    x = Axis(0, most, left, WIDTH - RIGHT)
    parts = []
    for i, name in enumerate(names):
        at, y = float(left), TOP + step * i
        parts.append(
            f'<text class="label" x="{left}" y="{y}">{escape(name)}</text>'
            f'<text class="label" x="{WIDTH - RIGHT}" y="{y}" text-anchor="end">'
            f"{size(totals[name])}</text>"
        )
        for flow in (f for f in egress.flows if f.hospital == name):
            wide = round(x.place(flow.bytes) - left, 1)
            parts.append(
                f'<rect class="fill{stages.index(flow.stage) % 5}" x="{at:.1f}" y="{y + 6}" '
                f'width="{wide}" height="18"><title>{escape(flow.stage)}: '
                f"{size(flow.bytes)}</title></rect>"
            )
            at += wide
    at, y = float(left), TOP + step * len(names)
    for i, stage in enumerate(stages):
        wide = 24 + LETTER * len(stage)
        if at + wide > WIDTH:
            at, y = float(left), y + 20
        parts.append(
            f'<rect class="fill{i % 5}" x="{at:.1f}" y="{y - 9}" width="12" height="12"/>'
            f'<text class="label" x="{at + 17:.1f}" y="{y + 2}">{escape(stage)}</text>'
        )
        at += wide
    about = "; ".join(f"{name} {size(totals[name])}" for name in names)
    return svg("Bytes that left each hospital", about, "".join(parts), WIDTH, y + 10)


def _kind(verdict: Verdict | None) -> str:
    return (verdict or "none").lower()
