"""What each observer of a run saw, and who they are: the peer, and the coalition's victim."""

from collections.abc import Sequence

from securefed.exposure import Exposure, Observer
from securefed.playback.observers import exposure
from securefed.record.run import Run


def exposures_of(run: Run, observers: Sequence[Observer]) -> dict[Observer, Exposure]:
    """The exposure of each observer.

    The victim is the hospital that holds the canaries, or else the first; the peer is the one after
    it.

    Raises:
        RunError: the run was not recorded, or the recording is damaged.
    """
    names, canaries = run.hospitals, run.settings.canaries
    first = canaries.hospital - 1 if canaries.count else 0
    named: dict[Observer, str] = {
        "coalition": names[first],
        "peer": names[(first + 1) % len(names)],
    }
    return {each: exposure(run.path, each, named.get(each)) for each in observers}
