"""Charts of the report page, drawn as SVG with the page's own colours.

A chart has no colour of its own: classes take them from the page's style sheet, so that it follows
the light and dark themes and prints. Each has a title and a description for screen readers, and the
page has the same numbers in a table.
"""

import re
from collections.abc import Callable, Sequence

import msgspec
from markupsafe import Markup, escape

from securefed.privacy.accounting import at_most
from securefed.record.audit import Judgement
from securefed.record.metrics import RoundLine
from securefed.reporting.facts import Egress, Utility
from securefed.reporting.words import number, size, span
from securefed.verdict import Verdict

# For renderers that do not apply a page's style sheet to drawings (WeasyPrint); elsewhere the style
# sheet overrules these, so that drawings follow the theme.
PAINT = {
    "line": 'fill="none" stroke="#0b5394" stroke-width="2"',
    "dot": 'fill="#0b5394"',
    "grid": 'stroke="#d3dae1"',
    "limit": 'stroke="#b3541e" stroke-width="1.5" stroke-dasharray="6 4"',
    "bound": 'stroke="#b3541e" stroke-width="3"',
    "whisker": 'stroke="#0b5394" stroke-width="3"',
    "fill0": 'fill="#0b5394"',
    "fill1": 'fill="#b3541e"',
    "fill2": 'fill="#1d7a45"',
    "fill3": 'fill="#6a3d9a"',
    "fill4": 'fill="#8a6d00"',
    "tick": 'font-size="13" fill="#4d5b69"',
    "label": 'font-size="13" fill="#17202a"',
}
WIDTH, HEIGHT = 400, 240
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 14, 44
Points = Sequence[tuple[float, float]]


class Axis(msgspec.Struct, frozen=True):
    """A linear axis in pixels."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        span = self.high - self.low or 1.0
        return round(self.start + (value - self.low) / span * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Four to seven round numbers."""
        step = (self.high - self.low) / 5 or 1.0
        power = 10.0 ** len(str(int(1 / step))) if step < 1 else 1.0
        grid = _round_step(step * power) / power
        first = -(-self.low // grid) * grid
        count = int((self.high - first) / grid + 1e-9) + 1
        return [round(first + i * grid, 9) for i in range(count)]


def _round_step(step: float) -> float:
    scale = 10.0 ** (len(str(int(step))) - 1) if step >= 1 else 1.0
    return next(k * scale for k in (1, 2, 2.5, 5, 10) if k * scale >= step)


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
    x = Axis(0, max(max(k for k, _ in points), 1), LEFT, WIDTH - RIGHT)
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
    body = (
        _frame(x, y, "round", label) + extra + f'<polyline class="line" points="{path}"/>' + marks
    )
    return _svg(title, about, body, WIDTH, HEIGHT)


def training(curve: Sequence[RoundLine], budget: float | None) -> list[tuple[Markup, str]]:
    """AUC, loss and epsilon over rounds, whichever were recorded."""
    # An evaluation describes the parameters its round started from.
    auc = [(k.round - 1, k.auc) for k in curve if k.auc is not None]
    loss = [(k.round - 1, k.loss) for k in curve if k.loss is not None]
    spent = [(k.round, k.epsilon) for k in curve if k.epsilon is not None]
    lowest = min((value for _, value in auc), default=0.5)
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


def roc(utility: Utility) -> Markup:
    """The ROC curve with the operating point at probability 0.5."""
    if not utility.roc or utility.sensitivity is None or utility.specificity is None:
        return Markup("")
    side = 300
    x = Axis(0, 1, LEFT, side - RIGHT)
    y = Axis(0, 1, side - BOTTOM, TOP)
    alarm, sensitivity = 1 - utility.specificity, utility.sensitivity
    path = " ".join(f"{x.place(false)},{y.place(true)}" for false, true in utility.roc)
    body = (
        _frame(x, y, "false alarms (1 - specificity)", "sensitivity", side, side)
        + f'<line class="limit" x1="{x.start}" y1="{y.start}" x2="{x.end}" y2="{y.end}"/>'
        + f'<polyline class="line" points="{path}"/>'
        + f'<circle class="dot" cx="{x.place(alarm)}" cy="{y.place(sensitivity)}" r="6"/>'
    )
    about = (
        f"ROC curve with area {number(utility.auc)}; at probability one half sensitivity "
        f"{number(sensitivity)} at false alarm rate {number(alarm)}."
    )
    return _svg("ROC curve", about, body, side, side, "chart square")


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
    left, step = 330, 26
    height = TOP + step * len(rows) + BOTTOM
    x = Axis(0, 1, left, 760 - RIGHT)
    parts = []
    for tick in x.ticks():
        at = x.place(tick)
        parts.append(
            f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{height - BOTTOM}"/>'
            f'<text class="tick" x="{at}" y="{height - 24}" text-anchor="middle">{tick:g}</text>'
        )
    for i, row in enumerate(rows):
        at = TOP + step * (i + 0.5)
        low, high = row.interval or (row.value, row.value)
        ends = [x.place(min(1.0, max(0.0, v))) for v in (low or 0.0, 1.0 if high is None else high)]
        limit = x.place(min(1.0, row.threshold or 0.0))
        label = f"{row.attack}: {row.metric or row.method} · {row.observer or 'any'}"
        parts.append(
            f'<text class="label" x="{left - 12}" y="{at + 4}" text-anchor="end">'
            f"{escape(label)} · {escape(row.observer or 'any')}</text>"
            f'<line class="whisker {_kind(row.verdict)}" x1="{ends[0]}" x2="{ends[1]}" '
            f'y1="{at}" y2="{at}"/>'
            f'<circle class="dot {_kind(row.verdict)}" cx="{x.place(row.value or 0.0)}" '
            f'cy="{at}" r="5"/>'
            f'<line class="bound" x1="{limit}" x2="{limit}" y1="{at - 10}" y2="{at + 10}"/>'
        )
    parts.append(
        f'<text class="label" x="{(left + 760) / 2}" y="{height - 6}" text-anchor="middle">'
        "figure with its interval; the upright line is the threshold</text>"
    )
    about = "; ".join(
        f"{row.attack}, {row.title}, {row.observer or 'any'}: {number(row.value)} "
        f"({span(row.interval)}), threshold {number(row.threshold)}"
        for row in rows
    )
    return _svg("Attack figures against their thresholds", about, "".join(parts), 760, height)


def egress_bars(egress: Egress) -> Markup:
    """Bytes that left each hospital, one bar each, split by stage."""
    names = sorted({flow.hospital for flow in egress.flows})
    stages = list(dict.fromkeys(flow.stage for flow in egress.flows))
    totals = {n: sum(f.bytes for f in egress.flows if f.hospital == n) for n in names}
    most = max(totals.values(), default=0)
    if not most:
        return Markup("")
    left, step, width = 150, 30, 760
    height = TOP + step * len(names) + 34
    x = Axis(0, most, left, width - 110)
    parts = []
    for i, name in enumerate(names):
        at, y = float(left), TOP + step * i
        parts.append(
            f'<text class="label" x="{left - 10}" y="{y + 17}" text-anchor="end">'
            f"{escape(name)}</text>"
        )
        for flow in (f for f in egress.flows if f.hospital == name):
            wide = round(x.place(flow.bytes) - left, 1)
            parts.append(
                f'<rect class="fill{stages.index(flow.stage) % 5}" x="{at:.1f}" y="{y}" '
                f'width="{wide}" height="22"><title>{escape(flow.stage)}: '
                f"{size(flow.bytes)}</title></rect>"
            )
            at += wide
        parts.append(
            f'<text class="label" x="{at + 8:.1f}" y="{y + 17}">{size(totals[name])}</text>'
        )
    for i, stage in enumerate(stages):
        at = left + i * 110
        parts.append(
            f'<rect class="fill{i % 5}" x="{at}" y="{height - 20}" width="12" height="12"/>'
            f'<text class="label" x="{at + 18}" y="{height - 10}">{escape(stage)}</text>'
        )
    about = "; ".join(f"{name} {size(totals[name])}" for name in names)
    return _svg("Bytes that left each hospital", about, "".join(parts), width, height)


def _kind(verdict: Verdict | None) -> str:
    return (verdict or "none").lower()


def _frame(
    x: Axis, y: Axis, x_label: str, y_label: str, width: int = WIDTH, height: int = HEIGHT
) -> str:
    parts = []
    for tick in y.ticks():
        at = y.place(tick)
        parts.append(
            f'<line class="grid" x1="{x.start}" x2="{x.end}" y1="{at}" y2="{at}"/>'
            f'<text class="tick" x="{x.start - 8}" y="{at + 4}" text-anchor="end">{tick:g}</text>'
        )
    for tick in x.ticks():
        at = x.place(tick)
        parts.append(
            f'<text class="tick" x="{at}" y="{y.start + 17}" text-anchor="middle">{tick:g}</text>'
        )
    middle = (y.start + y.end) / 2
    parts.append(
        f'<text class="label" x="{(x.start + x.end) / 2}" y="{height - 8}" '
        f'text-anchor="middle">{escape(x_label)}</text>'
        f'<text class="label" transform="translate(14 {middle}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _svg(title: str, about: str, body: str, width: int, height: int, kind: str = "chart") -> Markup:
    body = re.sub(r'class="(\w+)', lambda match: f"{PAINT[match[1]]} {match[0]}", body)
    # Every piece of text that came from a file was escaped where it was put in.
    return Markup(  # noqa: S704
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}. {escape(about)}"><title>{escape(title)}</title>{body}</svg>'
    )
