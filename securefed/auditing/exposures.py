"""What each observer of a run saw, and who they are: the peer, and the coalition's victim.

Of a run among machines each party audits what it has. A hospital: what a peer sees, which it is
itself, and what others have of it. A server: what it saw.
"""

from collections.abc import Sequence

from securefed.errors import ConfigurationError
from securefed.exposure import OBSERVERS, Exposure, Observer
from securefed.run_directory import Run


def observers_of(run: Run) -> tuple[Observer, ...]:
    """The observers whose part in a run can be told from its folder."""
    match run.party:
        case "everybody":
            return OBSERVERS
        case "server":
            return ("server", "outsider")
        case "hospital":
            masked = run.settings.secure_aggregation.enabled
            return tuple(each for each in OBSERVERS if not (masked and each == "server"))


def exposures_of(run: Run, observers: Sequence[Observer]) -> dict[Observer, Exposure]:
    """The exposure of each observer.

    The victim is the hospital that holds the canaries, or else the first; the peer is the one after
    it. From a hospital's own folder both are that hospital.

    Raises:
        ConfigurationError: an observer whose part is in another party's folder.
        RunError: the run was not recorded, or the recording is damaged.
    """
    there = observers_of(run)
    for each in observers:
        if each not in there:
            raise ConfigurationError(
                f"what the {each} of this run saw is not in {run.path}, a {run.party}'s folder",
                hint=f"choose of: {', '.join(there)}",
            )
    victim, peer = _victim_and_peer(run)
    saw = run.observers()
    return {each: saw.of(each, peer if each == "peer" else victim) for each in observers}


def _victim_and_peer(run: Run) -> tuple[str, str]:
    if run.party == "hospital":
        (own,) = run.here
        return own, own
    names, canaries = run.hospitals, run.settings.canaries
    first = canaries.hospital - 1 if canaries.count else 0
    return names[first], names[(first + 1) % len(names)]
