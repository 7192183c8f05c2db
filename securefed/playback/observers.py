"""Exposures of a recorded run: what each observer saw, from the messages and public settings.

    server       `server_replay`: every contribution, or the sum that the masks leave
    peer         `peer_replay`: what one hospital received and sent
    coalition    the server, and what all hospitals but the victim sent before masking: the sum less
                 that is the victim's contribution, exactly, masked or not
    outsider     the released model

Nothing is taken from a running program, and a hospital's folder is opened only where that hospital
is the observer or colludes with it. What cannot be had is left out; `Exposure.missing` says why.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from securefed.errors import ConfigurationError
from securefed.exposure import Exposure, Observer, RoundView
from securefed.playback.contributions import SentContributions, decoded
from securefed.playback.peer import peer_rounds
from securefed.playback.recorded import Notes, RecordedRun
from securefed.playback.server import ServerRound
from securefed.playback.server import replay as replay_server
from securefed.wire.contribution import Words
from securefed.wire.messages import Vector


def exposure(directory: Path, observer: Observer, member: str | None = None) -> Exposure:
    """What an observer of a recorded run saw.

    Args:
        directory: of a finished run made with exposures.record.
        member: the hospital that is the peer, or the coalition's victim; None for the others.

    Raises:
        ConfigurationError: a member that the observer does not need, or needs and is not there.
        RunError: no such run, not finished, or its recording is missing, damaged or contradicts
            itself.
    """
    run = RecordedRun.open(directory)
    hospital = _member(run, observer, member)
    released = run.released()
    configuration = run.settings.configuration
    if observer == "outsider":
        return Exposure(observer, (), configuration, (), released)
    if observer == "peer":
        views, missing = peer_rounds(run, hospital, released)
        return Exposure(observer, (hospital,), configuration, views, released, missing)
    found = replay_server(run)
    found.trail.at(found.end, released)
    rounds = [found.rounds[number] for number in sorted(found.rounds)]
    members: tuple[str, ...] = ()
    if observer == "server":
        views = tuple(_view(each) for each in rounds)
    else:
        coalition = _Coalition(run, hospital, found.notes)
        members, views = coalition.members, tuple(coalition.view(each) for each in rounds)
    for number in found.trail.unchecked:
        found.notes.add("not checked against the rounds before, which are not known", number)
    return Exposure(observer, members, configuration, views, released, found.notes.text())


def _member(run: RecordedRun, observer: Observer, member: str | None) -> str:
    needed = {"peer": "the hospital that looks", "coalition": "the hospital that is looked at"}
    if observer not in needed:
        if member is not None:
            raise ConfigurationError(f"a hospital ({member}) was named for observer {observer}")
        return ""
    if member not in run.hospitals:
        raise ConfigurationError(
            f"observer {observer} needs {needed[observer]}, got {member}",
            hint=f"hospitals of this run: {', '.join(run.hospitals)}",
        )
    return member


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
        self.members = tuple(name for name in run.hospitals if name != victim)
        self._sent: dict[str, SentContributions] = {}
        if run.settings.secure_aggregation.enabled:
            self._sent = {name: SentContributions(run, name) for name in self.members}

    def view(self, each: ServerRound) -> RoundView:
        """The server's view; of a masked round with the contributions in it."""
        view = _view(each)
        if each.summed is None or each.summed.words is None:
            return view
        found = self._contributions(each, each.summed.words, each.summed.survivors)
        return replace(
            view,
            updates={name: update for name, (update, _) in found.items()},
            patients={name: patients for name, (_, patients) in found.items()},
        )

    def _contributions(
        self, each: ServerRound, total: Words, survivors: tuple[str, ...]
    ) -> dict[str, tuple[Vector, int]]:
        found: dict[str, tuple[Vector, int]] = {}
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
                found[name] = own
            if rest is not None:
                rest -= words  # modulo 2^32, as the masks were added
        if self._victim in survivors and rest is not None:
            own = decoded(rest, each.layout, each.number, self._victim)
            if own:
                found[self._victim] = own
        return found
