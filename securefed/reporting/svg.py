"""Drawing as SVG: axes, frames, markers and legends with the page's own colours.

A drawing has no colour of its own: classes take them from the page's style sheet, so that it
follows the light and dark themes and prints. Each has a title and a description for screen readers,
and the page has the same numbers in a table. Series differ in colour *and* in shape or dashes, for
who does not tell the colours apart. Drawings are WIDTH wide or narrower: on a telephone they are
not scaled to letters that nobody can read.
"""

import re
from collections.abc import Sequence

import msgspec
from markupsafe import Markup, escape

# For renderers that do not apply a page's style sheet to drawings (WeasyPrint); elsewhere the style
# sheet overrules these, so that drawings follow the theme.
PAINT = {
    "line": 'fill="none" stroke="#0b5394" stroke-width="2"',
    "dot": 'fill="#0b5394"',
    "grid": 'stroke="#d3dae1"',
    "limit": 'stroke="#b3541e" stroke-width="1.5" stroke-dasharray="6 4"',
    "band": 'fill="#0b5394" fill-opacity="0.14"',
    "guess": 'stroke="#4d5b69" stroke-dasharray="1 3"',
    "bound": 'stroke="#b3541e" stroke-width="3"',
    "whisker": 'stroke="#0b5394" stroke-width="3"',
    "fill0": 'fill="#0b5394"',
    "fill1": 'fill="#b3541e"',
    "fill2": 'fill="#1d7a45"',
    "fill3": 'fill="#6a3d9a"',
    "fill4": 'fill="#8a6d00"',
    "curve0": 'fill="none" stroke-width="2" stroke="#0b5394"',
    "curve1": 'fill="none" stroke-width="2" stroke="#b3541e" stroke-dasharray="7 3"',
    "curve2": 'fill="none" stroke-width="2" stroke="#1d7a45" stroke-dasharray="2 2"',
    "curve3": 'fill="none" stroke-width="2" stroke="#6a3d9a" stroke-dasharray="9 3 2 3"',
    "curve4": 'fill="none" stroke-width="2" stroke="#8a6d00" stroke-dasharray="4 4"',
    "tick": 'font-size="13" fill="#4d5b69"',
    "label": 'font-size="13" fill="#17202a"',
}
WIDTH, HEIGHT = 400, 240
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 14, 44
LEGEND_ROW = 20
SERIES = 5  # colours, each with its own dashes and marker
LETTER = 7.2  # width of a letter of a label, about
Points = Sequence[tuple[float, float]]


class Axis(msgspec.Struct, frozen=True):
    """A linear axis in pixels; `whole` where there is nothing between whole numbers."""

    low: float
    high: float
    start: float
    end: float
    whole: bool = False

    def place(self, value: float) -> float:
        span = self.high - self.low or 1.0
        return round(self.start + (value - self.low) / span * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Four to seven round numbers."""
        step = (self.high - self.low) / 5 or 1.0
        power = 10.0 ** len(str(int(1 / step))) if step < 1 else 1.0
        grid = _round_step(step * power) / power
        if self.whole:
            grid = max(1.0, round(grid))
        first = -(-self.low // grid) * grid
        count = int((self.high - first) / grid + 1e-9) + 1
        return [round(first + i * grid, 9) for i in range(count)]


def _round_step(step: float) -> float:
    scale = 10.0 ** (len(str(int(step))) - 1) if step >= 1 else 1.0
    return next(k * scale for k in (1, 2, 2.5, 5, 10) if k * scale >= step)


def marker(series: int, x: float, y: float, size: float = 5.0) -> str:
    """The mark of a series: disc, square, triangle, diamond, cross."""
    a, b = size, size * 1.25
    kind = f"fill{series % SERIES}"
    shapes = (
        f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="{a:g}"/>',
        f'<rect class="{kind}" x="{x - a:g}" y="{y - a:g}" width="{2 * a:g}" height="{2 * a:g}"/>',
        f'<path class="{kind}" d="M{x:g} {y - b:g} l{b:g} {2 * a:g} h{-2 * b:g} z"/>',
        f'<path class="{kind}" d="M{x:g} {y - b:g} l{b:g} {b:g} l{-b:g} {b:g} l{-b:g} {-b:g} z"/>',
        f'<path class="{kind}" d="M{x - a:g} {y - 1.6:g} h{a - 1.6:g} v{1.6 - a:g} h3.2 '
        f"v{a - 1.6:g} h{a - 1.6:g} v3.2 h{1.6 - a:g} v{a - 1.6:g} h-3.2 v{1.6 - a:g} "
        f'h{1.6 - a:g} z"/>',
    )
    return shapes[series % SERIES]


def legend(names: Sequence[str], top: float, *, left: float = LEFT, lines: bool = False) -> str:
    """Names beside the marks of their series, or their lines, in as many rows as they take."""
    parts, x, y = [], left, top
    for series, name in enumerate(names):
        wide = 34 + LETTER * len(name)
        if x > left and x + wide > WIDTH:
            x, y = left, y + LEGEND_ROW
        mark = (
            f'<line class="curve{series % SERIES}" x1="{x:g}" x2="{x + 22:g}" y1="{y:g}" '
            f'y2="{y:g}"/>'
            if lines
            else marker(series, x + 8, y)
        )
        parts.append(
            f'{mark}<text class="label" x="{x + 27:g}" y="{y + 4:g}">{escape(name)}</text>'
        )
        x += wide + 10
    return "".join(parts)


def legend_height(names: Sequence[str], *, left: float = LEFT) -> float:
    """How much room a legend takes."""
    rows, x = 1, left
    for name in names:
        wide = 34 + LETTER * len(name)
        if x > left and x + wide > WIDTH:
            x, rows = left, rows + 1
        x += wide + 10
    return LEGEND_ROW * rows


def rows_of(y: Axis, start: float, end: float) -> str:
    """Grid lines of an upright axis with their values on the left."""
    return "".join(
        f'<line class="grid" x1="{start}" x2="{end}" y1="{at}" y2="{at}"/>'
        f'<text class="tick" x="{start - 8}" y="{at + 4}" text-anchor="end">{tick:g}</text>'
        for tick in y.ticks()
        for at in (y.place(tick),)
    )


def upright_label(y: Axis, text: str) -> str:
    """The name of an upright axis."""
    middle = (y.start + y.end) / 2
    return (
        f'<text class="label" transform="translate(14 {middle}) rotate(-90)" '
        f'text-anchor="middle">{escape(text)}</text>'
    )


def frame(
    x: Axis, y: Axis, x_label: str, y_label: str, width: int = WIDTH, height: int = HEIGHT
) -> str:
    """Grid, ticks and names of two axes."""
    parts = [rows_of(y, x.start, x.end)]
    for tick in x.ticks():
        at = x.place(tick)
        parts.append(
            f'<text class="tick" x="{at}" y="{y.start + 17}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(
        f'<text class="label" x="{(x.start + x.end) / 2}" y="{height - 8}" '
        f'text-anchor="middle">{escape(x_label)}</text>' + upright_label(y, y_label)
    )
    return "".join(parts)


def svg(title: str, about: str, body: str, width: int, height: int, kind: str = "chart") -> Markup:
    body = re.sub(r'class="(\w+)', lambda match: f"{PAINT[match[1]]} {match[0]}", body)
    # Every piece of text that came from a file was escaped where it was put in.
    return Markup(  # noqa: S704
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}. {escape(about)}"><title>{escape(title)}</title>'
        f"<desc>{escape(about)}</desc>{body}</svg>"
    )
