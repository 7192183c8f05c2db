"""Sparse recovery: taking a batch's gradient apart when there are fewer patients than hidden units.

SPEAR (Dimitrov et al. 2024, "SPEAR: Exact Gradient Inversion of Batches in Federated Learning",
NeurIPS) factors the gradient of a linear layer, which has the rank of the batch, and finds among
all factorisations the true one: its columns dl/dz hold exact zeros where the ReLU is off. A random
set of b - 1 rows that are all zeros of one column leaves that column as the only vector to vanish
there, so sampling sets finds it.

Our head has one output, hence dl/dz_ki = r_k v_i [unit i is on for k] with known v_i. Divided by
v_i a column is r_k times zeros and ones, which is sharper than sparsity (two patients' columns have
a difference as sparse as either), and which gives the inputs without the paper's second step:

    gradient rows / v = M diag(r) [X 1]      M binary (m, b): who has unit i on

Sampling needs 2^(b - 1) sets for a column with half its units off, and ends near b = 12. SPEAR++
(Bakarsky et al. 2025, arXiv 2510.24200) learns a dictionary instead, in polynomial time, and goes
ten times further. Zeros and ones in equal number are not sparse, but far from normal, so that here
independent components (FastICA, Hyvarinen 1999) take the dictionary's part. What they give is near
the columns; rounding and projecting onto the gradient's span, in turn, ends in one exactly, or is
thrown away.

What neither does: several places per patient. Each place then counts as an input of its own, the
rank is full, and `recover` says so instead of answering.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning

from attacks.head.features import Floats, HeadGradient

FAINTEST = 0.05  # of the largest output weight: below it rounding of the update shows as a feature
SAMPLED_SETS = 4096  # a column of b = 4 with half its units off is met by one set in eight
DRAWS = 10
FARTHEST_SAMPLED = 12  # rank beyond which sampled sets meet no column
NEAREST_SEPARATED = 5  # rank from which sampled sets may miss a column that is seldom off
SEPARATIONS = 20  # into independent components, in one draw
POLISHES = 30  # projections that a column may need to settle
LEAST_AGREEMENT = 0.99
MOST_COLUMNS = 14  # columns from which b are chosen


@dataclass(frozen=True, eq=False)
class Recovery:
    """Inputs found in a gradient, or why none were.

    Attributes:
        rank: of the gradient: inputs in it, unless it is full.
        inputs: (b, d); empty where nothing was found.
        residuals: r of each input times the gradient's scale, (b,); negative means label 1.
        agreement: share of (input, unit) pairs whose ReLU state, computed from the recovered
            input, is the one that the factorisation says; 1 for a right answer.
        reason: why there are no inputs, or "".
    """

    rank: int
    inputs: Floats = field(repr=False)
    residuals: Floats = field(repr=False)
    agreement: float
    reason: str = ""


def recover(
    gradient: HeadGradient,
    weight: Floats,
    bias: Floats,
    output_weight: Floats,
    rng: np.random.Generator,
    tolerance: float = 1e-4,
) -> Recovery:
    """Take a gradient of the head apart into the inputs of its first layer.

    Args:
        gradient: of a batch; any common scale.
        weight, bias, output_weight: the head's parameters (m, d), (m,), (m,), as they were.
        rng: samples the sets of rows.
        tolerance: relative size of what counts as zero; float32 updates need 1e-5 or more.
    """
    usable = np.abs(output_weight) > FAINTEST * np.abs(output_weight).max(initial=0.0)
    rows = gradient.rows[usable] / output_weight[usable, None]  # (m, d + 1)
    left, sizes, _ = np.linalg.svd(rows, full_matrices=False)
    rank = int((sizes > tolerance * sizes[0]).sum()) if sizes.size and sizes[0] > 0 else 0
    if rank == 0:
        return _nothing(0, rows, "the gradient is zero")
    if rank >= min(rows.shape):
        reason = f"the gradient has full rank {rank}: at least as many places as can be told apart"
        return _nothing(rank, rows, reason)
    met: dict[bytes, int] = {}
    best = _nothing(rank, rows, f"found none of {rank} columns of zeros and ones")
    for _ in range(DRAWS if comb(len(rows), rank - 1) > SAMPLED_SETS else 1):
        # A column with few zeros is seldom met: go on until a whole answer fits.
        for mask in _columns(left[:, :rank], rng, tolerance):
            met[mask.tobytes()] = met.get(mask.tobytes(), 0) + 1
        columns = [np.frombuffer(mask, np.bool_) for mask in sorted(met, key=lambda m: -met[m])]
        for chosen in combinations(columns[: max(MOST_COLUMNS, rank + 2)], rank):
            answer = _solve(rows, np.stack(chosen, axis=1), weight[usable], bias[usable])
            if answer is not None and answer.agreement > best.agreement:
                best = answer
        if best.agreement >= LEAST_AGREEMENT:
            return best
    reason = f"found {len(met)} columns, and no {rank} of them fit"
    return _nothing(rank, rows, reason, best.agreement)


def _nothing(rank: int, rows: Floats, reason: str, agreement: float = 0.0) -> Recovery:
    return Recovery(rank, np.empty((0, rows.shape[1] - 1)), np.empty(0), agreement, reason)


def _columns(
    basis: Floats, rng: np.random.Generator, tolerance: float
) -> Iterator[NDArray[np.bool_]]:
    """Candidates, by sets and, where those are too many to be met, by independent components."""
    rank = basis.shape[1]
    if rank <= FARTHEST_SAMPLED:
        yield from _binary_columns(basis, rng, tolerance)
    if rank >= NEAREST_SEPARATED:
        for _ in range(SEPARATIONS):
            yield from _separated_columns(basis, rng, tolerance)


def _separated_columns(
    basis: Floats, rng: np.random.Generator, tolerance: float
) -> NDArray[np.bool_]:
    """Vectors of zeros and ones in the span of `basis` (m, b) near its independent components."""
    separate = FastICA(
        basis.shape[1],
        whiten="unit-variance",
        max_iter=200,
        tol=1e-3,
        random_state=int(rng.integers(2**31)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what did not settle fits nothing
        parts = separate.fit_transform(basis).T  # (b, m), of either sign
    middle = (parts.max(axis=1, keepdims=True) + parts.min(axis=1, keepdims=True)) / 2
    masks = np.concatenate([parts > middle, parts < middle, parts > 0, parts < 0])
    for _ in range(POLISHES):
        before, masks = masks, (masks @ basis) @ basis.T > 0.5
        if (before == masks).all():
            break
    off = np.abs((masks @ basis) @ basis.T - masks).max(axis=1)
    columns: NDArray[np.bool_] = masks[(off < 100 * tolerance) & masks.any(axis=1)]
    return np.unique(columns, axis=0)


def _binary_columns(basis: Floats, rng: np.random.Generator, tolerance: float) -> NDArray[np.bool_]:
    """Vectors of zeros and ones in the span of `basis` (m, b), once for each time they were met."""
    units, rank = basis.shape
    if rank == 1:
        sets = np.empty((1, 0), np.intp)
    else:
        sets = rng.random((SAMPLED_SETS, units)).argsort(axis=1)[:, : rank - 1]
    # The last right singular vector of b - 1 rows vanishes on them.
    kernels = np.linalg.svd(basis[sets])[2][:, -1] if rank > 1 else np.ones((1, 1))  # (sets, b)
    values = kernels @ basis.T  # (sets, m)
    values /= np.take_along_axis(values, np.abs(values).argmax(axis=1)[:, None], axis=1)
    on = np.abs(values - 1) < 100 * tolerance
    off = np.abs(values) < 100 * tolerance
    # More zeros than the set forced, and nothing but zeros and ones.
    good = (on | off).all(axis=1) & ((off.sum(axis=1) >= rank) | (rank == 1))
    columns: NDArray[np.bool_] = on[good]
    return columns


def _solve(rows: Floats, masks: NDArray[np.bool_], weight: Floats, bias: Floats) -> Recovery | None:
    """The inputs if `masks` (m, b) are the columns; None if they are dependent."""
    scaled, _, rank, _ = np.linalg.lstsq(
        masks.astype(np.float64), rows, rcond=None
    )  # (b, d + 1): r [x 1]
    residuals = scaled[:, -1].astype(np.float64)
    if rank < masks.shape[1] or not np.abs(residuals).min() > 0:
        return None
    inputs: Floats = scaled[:, :-1] / residuals[:, None]
    on = inputs @ weight.T + bias > 0  # (b, m)
    agreement = float((on == masks.T).mean())
    return Recovery(masks.shape[1], inputs, residuals, agreement)
