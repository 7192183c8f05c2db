"""Gradient inversion as a family."""

from attacks.family import Family, on_updates
from attacks.inversion import NAME
from attacks.inversion.attack import absent, attack
from attacks.inversion.controls import controls

FAMILY = Family(
    name=NAME,
    controls=lambda case, progress: controls(case.effort, case.subject.seed, progress),
    attack=on_updates(attack, absent),
    alone=("server", "coalition", "outsider"),
    weights=(14, 0, 30),
)
