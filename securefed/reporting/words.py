"""How the report writes numbers: enough digits to act on, units beside them, a dash for nothing."""

import math
from collections.abc import Sequence

from securefed.privacy.accounting import at_least, at_most
from securefed.record.audit import Judgement

NOTHING = "–"


def number(value: float | None, digits: int = 3) -> str:
    """`digits` decimals at ordinary size, exponents for very small and very large ones."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e6):
        return f"{int(value)}"
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2g}"
    return f"{value:.{digits}f}"


def moment(at: str) -> str:
    """A time in UTC, ISO 8601, for people."""
    return at.replace("T", " ").replace("+00:00", " UTC")


def figure(line: Judgement) -> str:
    """What an attack reached; a lower bound on epsilon is rounded down."""
    return at_least(line.value) if _is_bound(line, line.value) else number(line.value)


def threshold(line: Judgement) -> str:
    """The most it may be; a claimed epsilon is rounded up."""
    return at_most(line.threshold) if _is_bound(line, line.threshold) else number(line.threshold)


def limits(line: Judgement) -> str:
    """The figure's interval, which for epsilon is open above; nothing where it has none."""
    if line.interval == (line.value, line.value):
        return NOTHING
    return f"at least {figure(line)}" if _is_bound(line, line.value) else span(line.interval)


def _is_bound(line: Judgement, value: float | None) -> bool:
    return line.of_epsilon and value is not None


def span(limits: Sequence[float | None] | None) -> str:
    """A confidence interval; an open end is written out."""
    if not limits:
        return NOTHING
    low, high = limits
    if high is None:
        return f"at least {number(low)}"
    if low is None:
        return f"at most {number(high)}"
    return f"{number(low)} to {number(high)}"


def size(count: float) -> str:
    """Bytes with a decimal unit."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"


def seconds(value: float | None) -> str:
    """A duration."""
    if value is None:
        return NOTHING
    if value < 0.1:
        return f"{1000 * value:.1f} ms"
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"
