"""Whose feature is it: a gradient of the head against candidates, by a matched filter.

Features of different patients point nearly the same way; what tells them apart is what is left
after the mean. So both sides lose the mean feature mu_i of each hidden unit, without the division
that makes the row ratio unstable where residuals of both signs cancel:

    gradient    dl/dW_i - mu_i dl/db_i = v_i sum_k r_k t_ki (x_ki - mu_i)
    candidate   v_i r t_i (x_i - mu_i)

(x_i is the candidate's row ratio; of several logits both are sums over them.) Both are whitened by
the covariance of what else is in the gradient: the other patients of the batch and the noise of
differential privacy. The score is the cosine in that space. Residuals have the sign, and of several
examples or classes the sizes, that candidates' labels give them: labels are assumed known, all of
them. For a patient alone in the gradient the score is 1, whatever the scale.

mu and the covariance come from reference patients that are neither targets nor candidates, as an
attacker has them from a public collection.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from attacks.errors import TooFewTargets
from attacks.head.features import Floats, HeadGradient, Signatures

FEWEST_REFERENCES = 10
MEAN_SQUARE_RESIDUAL = 0.25  # of a network that is not sure of anything
SHRINKAGE = 0.05  # towards a diagonal covariance; the identification hardly depends on it


@dataclass(frozen=True, eq=False)
class Filter:
    """The matched filter of one set of parameters and one mechanism."""

    mean: Floats = field(repr=False)  # (m, d)
    whitener: Floats = field(repr=False)  # lower Cholesky factor, (m * d, m * d)

    def cosines(self, gradient: HeadGradient, candidates: Signatures) -> Floats:
        """One cosine per candidate, (candidates,); 0 where there is nothing to compare."""
        seen = self._white((gradient.weight - gradient.bias[:, None] * self.mean)[None])
        known = self._white(candidates.rows[..., :-1] - candidates.rows[..., -1:] * self.mean)
        lengths = np.linalg.norm(known, axis=1) * np.linalg.norm(seen)
        cosines: Floats = (known @ seen[0]) / np.where(lengths > 0, lengths, 1.0)
        return cosines

    def _white(self, centred: Floats) -> Floats:
        flat = centred.reshape(len(centred), -1)
        white: Floats = solve_triangular(self.whitener, flat.T, lower=True).T
        return white


def build_filter(reference: Signatures, patients: float, noise_std: float) -> Filter:
    """The filter for gradients that are sums over `patients` patients.

    Args:
        reference: signatures under the parameters that the gradient was taken at.
        patients: expected number in the sum.
        noise_std: of one entry of the sum, rounding included; > 0.

    Raises:
        TooFewTargets: too few reference patients for a mean and a covariance.
    """
    if len(reference) < FEWEST_REFERENCES:
        raise TooFewTargets(
            f"{len(reference)} reference patients, the filter needs {FEWEST_REFERENCES}",
            hint="audit a run with more held-out patients",
        )
    places = reference.places.sum(axis=0)  # (m, d + 1)
    total = places[:, -1:]
    mean = places[:, :-1] / np.where(total > 0, total, 1.0)  # (m, d)
    s, t = reference.rows[..., :-1], reference.rows[..., -1:]
    centred = (s - t * mean).reshape(len(reference), -1)
    spread = centred.T @ centred / len(centred)
    spread = (1 - SHRINKAGE) * spread + SHRINKAGE * np.diag(np.diag(spread))
    covariance = patients * MEAN_SQUARE_RESIDUAL * spread
    width = mean.shape[1]
    for unit, row in enumerate(mean):
        # Noise of the weight gradient, and mu times that of the bias gradient.
        block = slice(unit * width, (unit + 1) * width)
        covariance[block, block] += noise_std**2 * (np.eye(width) + np.outer(row, row))
    return Filter(mean, cholesky(covariance, lower=True))
