"""The one progress display: what is being done, how far it is, and what the user should know.

    with Bar(console) as bar:
        bar.say("reading patients")     how long that takes is not known: the bar moves to and fro
        bar.reach(0.25, "round 5 of 20")
        bar.note("two hospitals: ...")  stands above the bar, and stays

It writes to the console it is given (stderr, so that results can be piped), and stands at the edge:
the commands and `securefed.run` use it, nothing below them does.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from securefed.estimate import Estimate
from securefed.record.metrics import RoundLine

if TYPE_CHECKING:
    from securefed.simulation.simulation import Simulation


SILENCE_S = 30.0  # without a terminal: then a line says what is being done


class Bar:
    """A bar over a piece of work.

    Args:
        kept: leave the bar standing when the work has ended, as notebooks do.
        staged: where there is no terminal for a bar, print a line whenever something else is being
            done; for work of few stages and many minutes. Otherwise such a line comes after a long
            silence only.
    """

    def __init__(
        self,
        console: Console,
        *,
        kept: bool = False,
        staged: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._clock = console, clock
        self._hidden = not (kept or console.is_terminal)
        self._staged = staged and self._hidden
        self._stage = ""
        self._spoke = clock()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=not kept,
            # In a file or a pipe a bar that goes again would leave empty lines.
            disable=self._hidden,
            # Parts of a piece of work differ by minutes: the speed is that of everything so far.
            speed_estimate_period=1e9,
        )
        self._task = self._progress.add_task("starting", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """What is being done now."""
        self._progress.update(self._task, description=text)
        if self._silent:
            self.line(text)

    def reach(self, share: float, text: str | None = None) -> None:
        """The finished share of everything, 0 to 1."""
        self._progress.update(self._task, total=1.0, completed=share)
        if text is None:
            return
        if self._staged and (text != self._stage or self._silent):
            self._stage = text
            self.line(f"{share:4.0%} {text}")
        self.say(text)

    def line(self, text: str) -> None:
        """A line that stays."""
        self._console.print(Text(text))
        self._spoke = self._clock()

    def note(self, text: str) -> None:
        """For the user to know."""
        self._console.print(Text("note: ", style="yellow") + Text(text), highlight=False)
        self._spoke = self._clock()

    @property
    def _silent(self) -> bool:
        return self._hidden and self._clock() - self._spoke >= SILENCE_S


class Rounds:
    """A run's rounds on a bar: its notes when it opens, then a step for each round on disk.

    Attributes:
        notes: what the operator was told when it opened, and of its time; it may name patients.
    """

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self.notes: list[str] = []
        self._planned = 0
        self._estimate: Estimate | None = None
        self._text = ""

    def say(self, text: str) -> None:
        """What is being done before and after the rounds."""
        self._bar.say(f"{self._text}, {text}" if self._text else text)

    def open(self, simulation: "Simulation") -> None:
        """The rounds begin."""
        self.notes = [*simulation.data.named, *simulation.notes]
        for note in self.notes:
            self._bar.note(note)
        self._planned = simulation.server.rounds
        finished, hospitals = simulation.server.finished, len(simulation.job.hospitals)
        left = self._planned - finished
        estimate = Estimate(simulation.settings, hospitals, left, self._tell)
        simulation.group.tell_steps(estimate.stepped)
        self._estimate = estimate
        self._reach(finished)

    def round(self, line: RoundLine) -> None:
        """A round has ended."""
        if self._estimate:
            self._estimate.round(line.wall_s)
        self._reach(line.round)

    def _tell(self, text: str) -> None:
        self.notes.append(text)
        self._bar.line(text)

    def _reach(self, finished: int) -> None:
        self._text = f"rounds {finished}/{self._planned}"
        self._bar.reach(finished / self._planned, self._text)
