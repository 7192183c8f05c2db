"""How long a run will take, said once when its first steps are done, and what would shorten it.

What is measured is the federation: how many steps all hospitals take in a second, however many of
them work at a time. Where a round has many steps the second one of some hospital ends the
measurement, since the first also warms up; where it has one, the first round does. Scoring and
baselines come on top. Nothing is refused.
"""

import threading
import time
from collections.abc import Callable

from securefed.config import Settings
from securefed.wording import counted

SMALLEST_IMAGE = 32  # model.image_size


class Estimate:
    """Of one run.

    Args:
        hospitals: of the run; where only some train in a round, the settings say how many.
        rounds: that are left.
        tell: given the line, once; on whichever thread the measurement ends.
    """

    def __init__(
        self,
        settings: Settings,
        hospitals: int,
        rounds: int,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._settings, self._rounds, self._tell, self._clock = settings, rounds, tell, clock
        asked = settings.federation.clients_per_round or hospitals
        self._steps = settings.training.local_steps * asked * rounds
        self._taken = 0
        self._first: dict[str, tuple[float, int]] = {}  # when a hospital's was, as the how manieth
        self._told = False
        self._turn = threading.Lock()

    def stepped(self, hospital: str) -> None:
        """A hospital has taken a step."""
        with self._turn:
            self._taken += 1
            if self._told or self._settings.training.local_steps == 1:
                return
            now = self._clock()
            if hospital not in self._first:
                self._first[hospital] = now, self._taken
                return
            began, before = self._first[hospital]
            self._say((now - began) / (self._taken - before) * self._steps)

    def round(self, wall_s: float) -> None:
        """A round has ended."""
        with self._turn:
            if not self._told:
                self._say(wall_s * self._rounds)

    def _say(self, seconds: float) -> None:
        self._told = True
        rounds = counted(self._rounds, "round")
        self._tell(f"time: about {in_words(seconds)} for {rounds}; {shorter(self._settings)}")


def in_words(seconds: float) -> str:
    """A duration to two digits or so: "40 seconds", "12 minutes", "3.5 hours", "2.1 days"."""
    for unit, size, most in (("second", 1, 90), ("minute", 60, 90), ("hour", 3600, 36)):
        if seconds < size * most:
            number = seconds / size
            exact = unit != "hour" or number >= 10
            return counted(max(1, round(number)) if exact else round(number, 1), unit)
    return counted(round(seconds / 86400, 1), "day")


def shorter(settings: Settings) -> str:
    """The setting that would take most off, and how much."""
    model, training, rounds = settings.model, settings.training, settings.federation.rounds
    if model.train_encoders and model.image_size >= 2 * SMALLEST_IMAGE:
        half, share = f"model.image_size: {model.image_size // 2}", "a quarter"
    elif training.local_steps > 1:
        half, share = f"training.local_steps: {training.local_steps // 2}", "half"
    elif rounds > 1:
        half, share = f"federation.rounds: {rounds // 2}", "half"
    else:
        drawn = "batch_size" if training.batch_size else "sample_rate"
        return f"a smaller training.{drawn} would take less"
    return f"{half} would take about {share}"
