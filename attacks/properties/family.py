"""Property inference as a family."""

from attacks.family import Family
from attacks.properties import NAME
from attacks.properties.attack import attack
from attacks.properties.controls import controls

FAMILY = Family(
    name=NAME,
    controls=lambda case, progress: controls(case.subject.seed, progress),
    attack=attack,
    alone=("server", "coalition", "outsider"),
    weights=(1, 0, 0.5),
)
