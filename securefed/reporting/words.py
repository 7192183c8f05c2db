"""How the report writes numbers: enough digits to act on, units beside them, a dash for nothing."""

import math
from collections.abc import Sequence

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


def upper(epsilon: float) -> str:
    """Epsilon to three decimals, never below what was computed."""
    return f"{math.ceil(epsilon * 1000) / 1000:.3f}"


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
