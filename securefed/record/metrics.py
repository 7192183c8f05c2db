"""metrics.jsonl: a line per round, and a line per round and client, as the run goes.

A line with `"client": null` is a round's. A round that was repeated after a crash has lines for
each time, and counts as it went the last. The last training round plus one is the final evaluation.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from securefed.privacy.accounting import Noise
from securefed.record import lines as lines_file
from securefed.record.json_file import decode

if TYPE_CHECKING:
    from securefed.model.scores import Metrics as Scored

NAME = "metrics.jsonl"
LARGEST_FILE = 256 * 2**20  # bytes; 100,000 rounds stay below

Curve = tuple[tuple[int, float], ...]  # finished rounds, AUC; ascending


class RoundLine(msgspec.Struct, frozen=True, kw_only=True):
    """One round, as the server knows it.

    Attributes:
        client: None, which tells this line from a client's.
        dropped: hospital -> reason.
        aborted: why nothing was aggregated, or "".
        patients: training patients of the survivors.
        loss, auc: of the parameters the round started from; None in rounds without evaluation.
        auc_by_class: of each of several classes against the rest, of which `auc` is the mean; None
            with labels 0 and 1, and in rounds without evaluation.
        noise: only the cryptographic one protects anybody.
        epsilon: the largest spent so far, None without DP and with seeded noise.
        bytes_up, bytes_down: over all hospitals.
        wall_s: seconds of the round, rounded up to tenths: finer ones follow the draw of patients.
        server_s: seconds of the server's own work in it.
    """

    round: int
    client: None = None
    survivors: tuple[str, ...]
    dropped: dict[str, str]
    aborted: str
    patients: int
    loss: float | None
    auc: float | None
    auc_by_class: dict[str, float | None] | None = None
    noise: Noise
    epsilon: float | None
    bytes_up: int
    bytes_down: int
    wall_s: float
    server_s: float


class ClientLine(msgspec.Struct, frozen=True, kw_only=True):
    """One client's share of a round.

    Attributes:
        noise, epsilon: as its ledger has them so far; see RoundLine.
    """

    round: int
    client: str
    noise: Noise
    epsilon: float | None
    bytes_up: int
    bytes_down: int


class _Whose(msgspec.Struct):
    client: str | None


def auc_by_class(scored: "Scored | None", classes: Sequence[str]) -> dict[str, float | None] | None:
    """The field of a line; None where there are no classes, or nobody was scored."""
    if scored is None or not classes:
        return None
    return {name: one.auc for name, one in zip(classes, scored.classes, strict=True)}


@dataclass(frozen=True)
class Metrics:
    """All lines, in the order they were written."""

    lines: tuple[RoundLine | ClientLine, ...]

    @cached_property
    def rounds(self) -> tuple[RoundLine, ...]:
        """One line a round, ascending; one that was repeated as it went the last time."""
        latest = {line.round: line for line in self.repeated}
        return tuple(latest[number] for number in sorted(latest))

    @cached_property
    def repeated(self) -> tuple[RoundLine, ...]:
        """The rounds' lines, each time that one was trained."""
        return tuple(line for line in self.lines if isinstance(line, RoundLine))

    @cached_property
    def clients(self) -> tuple[ClientLine, ...]:
        """The clients' lines, repeated rounds included: those bytes travelled too."""
        return tuple(line for line in self.lines if isinstance(line, ClientLine))

    @property
    def curve(self) -> Curve:
        """AUC over finished rounds, where it was evaluated."""
        # A line's AUC describes the parameters that its round started from.
        return tuple((line.round - 1, line.auc) for line in self.rounds if line.auc is not None)


def read(folder: Path) -> Metrics:
    """The lines in a run directory; none before the first round has ended.

    Raises:
        RunError: damaged; the line is named.
    """
    path = folder / NAME
    if not path.exists():
        return Metrics(())
    lines: list[RoundLine | ClientLine] = []
    for number, content in enumerate(lines_file.read(path, LARGEST_FILE), start=1):
        place = f"{path}, line {number}"
        if decode(content, _Whose, place).client is None:
            lines.append(decode(content, RoundLine, place))
        else:
            lines.append(decode(content, ClientLine, place))
    return Metrics(tuple(lines))


def append(folder: Path, lines: Iterable[RoundLine | ClientLine]) -> None:
    """Add lines, all of them or, on a full disk, none.

    Raises:
        OSError: they cannot be written.
    """
    lines_file.append(folder / NAME, map(msgspec.json.encode, lines))
