"""When the interval of a figure is too wide for it to be put forward."""

TOO_WIDE = 0.3  # an interval that holds both a poor and a good model
Interval = tuple[float, float]


def too_wide(interval: Interval | None) -> bool:
    """Whether a figure with this interval is too unsure to be put forward."""
    return interval is None or interval[1] - interval[0] > TOO_WIDE
