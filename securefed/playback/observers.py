"""What each observer of a recorded run saw, from the messages and public settings.

    server       `playback.server`: every contribution, or the sum that the masks leave
    peer         `playback.peer`: what one hospital received and sent
    coalition    the server, and what all hospitals but the victim sent before masking: the sum less
                 that is the victim's contribution, exactly, masked or not
    outsider     the released model

Nothing is taken from a running program, and a hospital's folder is opened only where that hospital
is the observer or colludes with it. What cannot be had is left out; `Exposure.missing` says why.

A hospital on a machine of its own has its own messages only. It knows what others have of it: where
nothing is masked the server has its updates, and a coalition of all others has them in any case.
"""

import copy
from dataclasses import replace
from functools import cached_property

import numpy as np

from securefed.errors import ConfigurationError
from securefed.exposure import Exposure, Observer, RoundView
from securefed.model.sharing import Vector
from securefed.playback import server
from securefed.playback.contributions import SentContributions, decoded
from securefed.playback.peer import own_rounds, peer_rounds
from securefed.playback.recorded import Notes, RecordedRun
from securefed.playback.server import ServerReplay, ServerRound
from securefed.wire.contribution import Words


class Observers:
    """The observers of one finished run, made with exposures.record.

    The server's side is played once, when somebody first asks for it, however many observers it
    is part of.

    Raises (each method):
        RunError: the run is not finished, or its recording is missing, damaged or contradicts
            itself.
    """

    def __init__(self, run: RecordedRun) -> None:
        self._run = run

    @property
    def hospitals(self) -> tuple[str, ...]:
        """Names, in order."""
        return self._run.job.hospitals

    def of(self, observer: Observer, member: str) -> Exposure:
        """What an observer saw.

        Args:
            member: the hospital that is the peer, or the coalition's victim; not used for others.
        """
        match observer:
            case "server":
                return self.server()
            case "peer":
                return self.peer(member)
            case "coalition":
                return self.coalition(member)
            case "outsider":
                return self.outsider()

    def server(self) -> Exposure:
        """What the server saw; from a hospital's own record, what it saw of that hospital.

        Raises:
            RunError: beside the above: a hospital's own record, and its updates were masked.
        """
        alone = self._run.alone
        if alone and not self._run.job.settings.secure_aggregation.enabled:
            return self._of_itself("server", alone)
        rounds = [_view(each) for each in self._rounds]
        return self._exposure("server", (), rounds, self._replay.notes)

    def peer(self, name: str) -> Exposure:
        """What one hospital saw, masks or not.

        Raises:
            ConfigurationError: there is no such hospital.
        """
        self._require(name)
        rounds, missing = peer_rounds(self._run, name, self._released)
        return Exposure("peer", (name,), self._configuration, rounds, self._released, missing)

    def coalition(self, victim: str) -> Exposure:
        """What the server and all hospitals but `victim` saw together.

        Raises:
            ConfigurationError: there is no such hospital.
        """
        self._require(victim)
        if self._run.alone == victim:
            return self._of_itself("coalition", victim)
        notes = copy.deepcopy(self._replay.notes)
        coalition = _Coalition(self._run, victim, notes)
        rounds = [coalition.view(each) for each in self._rounds]
        return self._exposure("coalition", coalition.members, rounds, notes)

    def outsider(self) -> Exposure:
        """What anybody has who gets the released model."""
        return Exposure("outsider", (), self._configuration, (), self._released)

    def _of_itself(self, observer: Observer, name: str) -> Exposure:
        """What an observer has of a hospital that looks at itself."""
        rounds, missing = own_rounds(self._run, name)
        others = tuple(each for each in self.hospitals if each != name)
        members = others if observer == "coalition" else ()
        return Exposure(observer, members, self._configuration, rounds, self._released, missing)

    def _exposure(
        self, observer: Observer, members: tuple[str, ...], rounds: list[RoundView], notes: Notes
    ) -> Exposure:
        told = copy.deepcopy(notes)
        for number in self._replay.trail.unchecked:
            told.add("not checked against the rounds before, which are not known", number)
        released, missing = self._released, told.text()
        return Exposure(observer, members, self._configuration, tuple(rounds), released, missing)

    def _require(self, name: str) -> None:
        if name not in self.hospitals:
            raise ConfigurationError(
                f"there is no hospital {name!r} in this run",
                hint=f"its hospitals: {', '.join(self.hospitals)}",
            )

    @property
    def _configuration(self) -> str:
        return self._run.job.settings.configuration

    @cached_property
    def _released(self) -> Vector:
        return self._run.released()

    @cached_property
    def replayed(self) -> ServerReplay:
        """The server's side of the run, played over the messages; the run need not be finished."""
        self._run.require_all()
        return server.replay(self._run)

    def sent(self, name: str) -> SentContributions:
        """What a hospital of a masked run kept of what it sent."""
        return SentContributions(self._run, name)

    @cached_property
    def _replay(self) -> ServerReplay:
        released, replay = self._released, self.replayed
        replay.trail.at(replay.end, released)
        return replay

    @property
    def _rounds(self) -> list[ServerRound]:
        return [self._replay.rounds[number] for number in sorted(self._replay.rounds)]


def _view(each: ServerRound) -> RoundView:
    mean = each.summed.total.mean_update if each.summed else None
    return RoundView(
        number=each.number,
        shared=each.shared,
        updates={name: update for name, (update, _) in each.contributions.items()},
        patients={name: patients for name, (_, patients) in each.contributions.items()},
        mean=None if mean is None else mean.astype(np.float32),
        survivors=each.summed.survivors if each.summed else (),
    )


class _Coalition:
    """The server and all hospitals but one, which pool what they know."""

    def __init__(self, run: RecordedRun, victim: str, notes: Notes) -> None:
        self._victim = victim
        self._notes = notes
        self.members = tuple(name for name in run.job.hospitals if name != victim)
        self._sent: dict[str, SentContributions] = {}
        if run.job.settings.secure_aggregation.enabled:
            self._sent = {name: SentContributions(run, name) for name in self.members}

    def view(self, each: ServerRound) -> RoundView:
        """The server's view; of a masked round with the contributions in it."""
        view = _view(each)
        if each.summed is None or each.summed.words is None:
            return view
        parts = self._contributions(each, each.summed.words, each.summed.survivors)
        return replace(
            view,
            updates={name: update for name, (update, _) in parts.items()},
            patients={name: patients for name, (_, patients) in parts.items()},
        )

    def _contributions(
        self, each: ServerRound, total: Words, survivors: tuple[str, ...]
    ) -> dict[str, tuple[Vector, int]]:
        parts: dict[str, tuple[Vector, int]] = {}
        rest: Words | None = total.copy()
        for name in survivors:
            if name == self._victim:
                continue
            words = self._sent[name].words(each.number, each.layout)
            if words is None:
                self._notes.add(f"what {name} sent was not kept (exposures.limit_mb)", each.number)
                rest = None
                continue
            own = decoded(words, each.layout, each.number, name)
            if own:
                parts[name] = own
            if rest is not None:
                rest -= words  # modulo 2^32, as the masks were added
        if self._victim in survivors and rest is not None:
            own = decoded(rest, each.layout, each.number, self._victim)
            if own:
                parts[self._victim] = own
        return parts
