"""Principal directions of rows that are few, or long: whichever of the two is less work."""

import numpy as np

from attacks.statistics.targets import Floats


def principal(rows: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues of rows^T rows and their directions, (K,) and (P, K), K <= min(N, P).

    Args:
        rows: (N, P).
    """
    count, size = rows.shape
    if count >= size:
        variances, directions = np.linalg.eigh(rows.T @ rows)
        return np.maximum(variances, 0.0), directions
    variances, weights = np.linalg.eigh(rows @ rows.T)
    there = variances > 1e-12 * max(float(variances[-1]), 1e-12) if count else slice(0)
    variances, weights = variances[there], weights[:, there]
    return variances, rows.T @ weights / np.sqrt(variances)
