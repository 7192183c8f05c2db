"""A mean over seeds, with Student's 95% interval of it: what benchmarks of learning have to say."""

import numpy as np
from scipy import stats


def mean_and_interval(values: list[float]) -> tuple[float, list[float] | None]:
    """None of a single value, which has no interval."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    reach = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return mean, [mean - reach, mean + reach]
