"""Head leakage as a family."""

from attacks.family import Family, on_updates
from attacks.head import NAME
from attacks.head.attack import absent, attack
from attacks.head.controls import controls

FAMILY = Family(
    name=NAME,
    controls=lambda case, progress: controls(case.effort, case.subject.seed, progress),
    attack=on_updates(attack, absent),
    alone=("server", "coalition", "outsider"),
    weights=(2, 0, 10),
)
