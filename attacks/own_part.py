"""What an observer sees of others: its own part taken off the means.

Hospitals that attack know what they sent. A peer's mean over the cohort less its own update is the
mean over the others, of fewer hospitals and so nearer to each of them. Without masks nobody tells a
peer who took part; it then takes all hospitals for granted, and is off where one was missing.
"""

from dataclasses import replace

import numpy as np

from attacks.subject import Subject
from securefed.exposure import Exposure, RoundView


def without_own_part(exposure: Exposure, subject: Subject) -> Exposure:
    """The same exposure with means and updates of others only.

    Means are weighted by declared patients, as federated averaging does; where hospitals share
    out one noise the mean is of summed gradients, has no such weights, and stays as it is. So does
    a mean in which an own update is not known.
    """
    if not exposure.members or subject.training.shared_noise:
        return exposure
    weights = {each.name: each.weight for each in subject.hospitals}
    rounds = tuple(_of_others(view, exposure.members, weights) for view in exposure.rounds)
    return replace(exposure, rounds=rounds)


def _of_others(view: RoundView, members: tuple[str, ...], weights: dict[str, int]) -> RoundView:
    survivors = view.survivors or tuple(weights)
    own = [name for name in members if name in survivors]
    others = tuple(name for name in survivors if name not in members)
    updates = {name: update for name, update in view.updates.items() if name not in members}
    if view.mean is None or not own or not set(own) <= set(view.updates):
        return replace(view, updates=updates, survivors=survivors)
    if not others:
        return replace(view, updates=updates, mean=None, survivors=())
    total = view.mean.astype(np.float64) * sum(weights[name] for name in survivors)
    total -= sum(weights[name] * view.updates[name].astype(np.float64) for name in own)
    mean = (total / sum(weights[name] for name in others)).astype(np.float32)
    return replace(view, updates=updates, mean=mean, survivors=others)
