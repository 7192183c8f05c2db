"""What each observer of a run saw, and who they are: the peer, and the coalition's victim."""

from collections.abc import Sequence

from securefed.exposure import Exposure, Observer
from securefed.run_directory import Run


def exposures_of(run: Run, observers: Sequence[Observer]) -> dict[Observer, Exposure]:
    """The exposure of each observer.

    The victim is the hospital that holds the canaries, or else the first; the peer is the one after
    it.

    Raises:
        RunError: the run was not recorded, or the recording is damaged.
    """
    names, canaries = run.hospitals, run.settings.canaries
    first = canaries.hospital - 1 if canaries.count else 0
    victim, peer = names[first], names[(first + 1) % len(names)]
    saw = run.observers()
    return {each: saw.of(each, peer if each == "peer" else victim) for each in observers}
