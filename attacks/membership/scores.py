"""Membership scores: from what a model says of a patient to "more likely trained on".

LiRA (Carlini et al. 2022), RMIA (Zarifzadeh, Liu & Shokri 2024), the loss threshold (Yeom et al.
2018) as the baseline every attack must beat, and the cosine between a patient's gradient and the
updates of the rounds, where single updates are visible (Li, Li & Ribeiro 2023). Only arithmetic:
the confidences of target, shadow and reference models come from elsewhere, one number per patient
(the mean over its slices). All scores grow with suspicion; their scales differ and are compared by
rank only. Shadow models that were not trained like the target weaken LiRA and RMIA silently, which
is what the positive control is for.
"""

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from attacks.errors import InvalidScores, TooFewTargets
from attacks.statistics.targets import Bools, Floats, finite_vector

# Carlini et al.: with fewer than 64 shadows, half of them a side, one variance for all is better.
SHADOWS_FOR_OWN_VARIANCE = 32
SMALLEST_LOSS = 1e-12  # a confidence of 1 - 1e-12; its logit is 27.6


def loss_threshold(losses: npt.ArrayLike) -> Floats:
    """Yeom et al.: the smaller the loss, the likelier a member.  # (targets,)"""
    return -finite_vector(losses, "losses")


def logit_confidence(losses: npt.ArrayLike) -> Floats:
    """log(p / (1 - p)) of the true label from its cross-entropy -log p: close to normal.

    Losses below SMALLEST_LOSS count as that, so that no confidence is infinite.

    Raises:
        InvalidScores: not finite, or negative.
    """
    values = finite_vector(losses, "losses")
    if values.min() < 0:
        raise InvalidScores(f"a cross-entropy is never negative, got {values.min():.3g}")
    values = np.maximum(values, SMALLEST_LOSS)
    return -values - np.log(-np.expm1(-values))  # -loss = log p; -expm1(-loss) = 1 - p


def _shadow_matrix(shadow: npt.ArrayLike, targets: int, name: str) -> Floats:
    matrix = np.asarray(shadow, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] == 0 or matrix.shape[1] != targets:
        raise InvalidScores(f"{name} must be (models, {targets}), got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise InvalidScores(f"{name} holds values that are not finite")
    return matrix


def _membership_matrix(values: npt.ArrayLike, shape: tuple[int, ...]) -> Bools:
    matrix = np.asarray(values)
    if matrix.dtype != np.bool_ or matrix.shape != shape:
        raise InvalidScores(
            f"shadow membership must be booleans of shape {shape}, "
            f"got {matrix.dtype} of {matrix.shape}"
        )
    return matrix


def _normal_fit(
    values: Floats, chosen: Bools, side: str, pooled: bool | None
) -> tuple[Floats, Floats]:
    """Mean and deviation per target over the chosen shadows.  # (targets,), (targets,)"""
    counts = chosen.sum(axis=0)
    if counts.min() < 1 or counts.max() < 2:
        raise TooFewTargets(
            f"a target is {side} {counts.min()} of {chosen.shape[0]} shadow models",
            hint="train more shadows, each on a fair half of the targets; 16 is the least of use",
        )
    if pooled is None:
        pooled = bool(counts.min() < SHADOWS_FOR_OWN_VARIANCE)
    means = np.where(chosen, values, 0.0).sum(axis=0) / counts
    squares = (np.where(chosen, values - means, 0.0) ** 2).sum(axis=0)
    if pooled:
        variance = np.full(counts.size, squares.sum() / (counts - 1).sum())
    elif counts.min() < 2:
        raise TooFewTargets(f"a target {side} one shadow model has no variance of its own")
    else:
        variance = squares / (counts - 1)
    if variance.min() == 0:
        raise InvalidScores(f"shadow confidences of a target are all equal where it is {side}")
    return means, np.sqrt(variance)


def lira_online(
    target: npt.ArrayLike,
    shadow: npt.ArrayLike,
    shadow_in: npt.ArrayLike,
    *,
    pooled: bool | None = None,
) -> Floats:
    """log p(confidence | in) - log p(confidence | out), each a normal law fitted to shadows.

    Args:
        target: logit confidences of the attacked model.  # (targets,)
        shadow: those of the shadow models.  # (models, targets)
        shadow_in: which shadow was trained on which target.  # (models, targets), booleans
        pooled: one variance for all targets (True), one each (False), or one for all where a
            target has fewer than SHADOWS_FOR_OWN_VARIANCE shadows on that side (None).

    Raises:
        InvalidScores: shapes, types or values.
        TooFewTargets: a target that every shadow was, or none was, trained on.
    """
    values = finite_vector(target, "target confidences")
    matrix = _shadow_matrix(shadow, values.size, "shadow confidences")
    inside = _membership_matrix(shadow_in, matrix.shape)
    in_mean, in_std = _normal_fit(matrix, inside, "in", pooled)
    out_mean, out_std = _normal_fit(matrix, ~inside, "out of", pooled)
    z_in, z_out = (values - in_mean) / in_std, (values - out_mean) / out_std
    return np.asarray((z_out**2 - z_in**2) / 2 + np.log(out_std / in_std), dtype=np.float64)


def lira_offline(
    target: npt.ArrayLike,
    shadow: npt.ArrayLike,
    shadow_in: npt.ArrayLike | None = None,
    *,
    pooled: bool | None = None,
) -> Floats:
    """How far above what models *not* trained on the target say, in standard deviations.

    Carlini et al. score by Phi of this; the order is the same and the tail does not saturate.

    Args:
        target: logit confidences of the attacked model.  # (targets,)
        shadow: those of models trained without the targets.  # (models, targets)
        shadow_in: which shadow was trained on which target, and is left out for it; None where
            no shadow was trained on any.  # (models, targets), booleans

    Raises:
        InvalidScores, TooFewTargets: as `lira_online`.
    """
    values = finite_vector(target, "target confidences")
    matrix = _shadow_matrix(shadow, values.size, "shadow confidences")
    outside = np.ones(matrix.shape, np.bool_)
    if shadow_in is not None:
        outside = ~_membership_matrix(shadow_in, matrix.shape)
    mean, deviation = _normal_fit(matrix, outside, "out of", pooled)
    return np.asarray((values - mean) / deviation, dtype=np.float64)


def rmia_log_ratio(
    target: npt.ArrayLike, reference: npt.ArrayLike, *, offline_a: float | None = None
) -> Floats:
    """log p(x | target model) - log p(x), p(x) being the mean over reference models.

    Args:
        target: log-probabilities of the true label under the attacked model.  # (targets,)
        reference: those under the reference models.  # (models, targets)
        offline_a: None where each x was in about half of the references (online). In [0, 1]
            where no reference saw x: p(x) = ((1 + a) mean + (1 - a)) / 2, the paper's
            correction for the models that would have seen it.

    Raises:
        InvalidScores: shapes, values above 0, or offline_a outside [0, 1].
    """
    values = finite_vector(target, "target log-probabilities")
    matrix = _shadow_matrix(reference, values.size, "reference log-probabilities")
    if values.max() > 0 or matrix.max() > 0:
        raise InvalidScores("a log-probability is never positive", hint="pass minus the loss")
    log_mean = np.logaddexp.reduce(matrix, axis=0) - np.log(matrix.shape[0])
    if offline_a is not None:
        if not 0 <= offline_a <= 1:
            raise InvalidScores(f"offline_a must be in [0, 1], got {offline_a}", hint="0.3")
        log_rest = math.log1p(-offline_a) if offline_a < 1 else -math.inf
        log_mean = np.logaddexp(math.log1p(offline_a) + log_mean, log_rest) - math.log(2)
    return np.asarray(values - log_mean, dtype=np.float64)


def rmia_scores(
    target_log_ratios: npt.ArrayLike, population_log_ratios: npt.ArrayLike, gamma: float = 2.0
) -> Floats:
    """The share of population records z with ratio(x) >= gamma x ratio(z).  # (targets,)

    Sorting the population once makes this n log n in time and linear in memory, with the same
    result as comparing every target with every z.

    Raises:
        InvalidScores: values, or gamma below 1.
    """
    if not 1 <= gamma < np.inf:
        raise InvalidScores(f"gamma must be at least 1, got {gamma}", hint="2 is the paper's")
    targets = finite_vector(target_log_ratios, "target ratios")
    bars = np.sort(finite_vector(population_log_ratios, "population ratios") + np.log(gamma))
    # "right": a z at the bar exactly is passed. Targets in order make the search cache-friendly.
    order = np.argsort(targets)
    passed = np.empty(targets.size)
    passed[order] = np.searchsorted(bars, targets[order], side="right")
    return passed / bars.size


def gradient_cosine(rounds: Iterable[tuple[npt.ArrayLike, npt.ArrayLike]]) -> Floats:
    """The mean over rounds of cos(update, -gradient of the target).  # (targets,)

    An update is a difference of shared parameters, so a trained-on target pushed it against its
    own gradient. A zero update or gradient has no direction and counts 0.

    Args:
        rounds: (update (parameters,), gradients (targets, parameters)) of each round, the
            gradients at the parameters that the round started from. Read one at a time.

    Raises:
        InvalidScores: no rounds, shapes, or values that are not finite.
    """
    total: Floats | None = None
    seen = 0
    for seen, (update, gradients) in enumerate(rounds, start=1):
        direction = finite_vector(update, f"update {seen}")
        matrix = _shadow_matrix(gradients, direction.size, f"gradients {seen}")
        if total is not None and total.size != matrix.shape[0]:
            raise InvalidScores(f"round {seen} has {matrix.shape[0]} targets, not {total.size}")
        norms = np.linalg.norm(matrix, axis=1) * np.linalg.norm(direction)
        cosines = np.divide(-(matrix @ direction), norms, out=np.zeros_like(norms), where=norms > 0)
        total = cosines if total is None else total + cosines
    if total is None:
        raise InvalidScores(
            "no round with a visible update",
            hint="under secure aggregation this attack does not apply: report N/A",
        )
    return total / seen
