"""Exposures: what an observer's messages amount to, round by round. The input of every attack.

An exposure holds only what the observer received, sent, or can compute from that with public
settings (`playback.observers` does the computing, from the recorded messages):

    server       shared parameters; every update where nothing is masked, else only their mean
    peer         shared parameters; its own contributions; the mean where the strategy is public
    coalition    server and all hospitals but one (the victim): the mean less the colluders' part
                 is the victim's update, masked or not
    outsider     the released parameters

It is not the truth that an audit compares with: that is the subject (attacks.subject).
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Observer = Literal["server", "peer", "coalition", "outsider"]
OBSERVERS: tuple[Observer, ...] = ("server", "peer", "coalition", "outsider")
Vector = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class RoundView:
    """One training round as an observer knows it.

    Attributes:
        number: 1, 2, ...
        shared: the shared parameters the round started from, (P,).
        updates: client -> its change of the shared parameters (P,), where the observer can tell it
            from the others'.
        patients: client -> training patients, for the same clients; empty where unknown.
        mean: mean change of the shared parameters over `survivors` (P,), or None where the
            observer cannot know it.
        survivors: whose contributions are in the mean; empty where unknown.
    """

    number: int
    shared: Vector = field(repr=False)
    updates: dict[str, Vector] = field(repr=False)
    patients: dict[str, int]
    mean: Vector | None = field(repr=False)
    survivors: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Exposure:
    """What one observer saw of one run.

    Attributes:
        observer: the kind.
        members: the hospitals that are the observer or collude with it; empty for server and
            outsider.
        configuration: plain, dp, secure or dp+secure.
        rounds: training rounds in order; empty for an outsider.
        released: shared parameters of the released model, (P,).
        missing: why some recorded rounds are not here (size bound, resumed run), or "".
    """

    observer: Observer
    members: tuple[str, ...]
    configuration: str
    rounds: tuple[RoundView, ...]
    released: Vector = field(repr=False)
    missing: str = ""

    @property
    def sees_updates(self) -> bool:
        """Whether an update of a hospital other than the observer's own can be told apart."""
        return any(set(view.updates) - set(self.members) for view in self.rounds)

    @property
    def sees_means(self) -> bool:
        return any(view.mean is not None for view in self.rounds)
