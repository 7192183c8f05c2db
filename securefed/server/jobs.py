"""How a job begins at a server, who is there, and how its end is written down."""

from collections.abc import Callable
from pathlib import Path

from securefed.errors import RunError
from securefed.record import anchors, memberships
from securefed.secure_sum import fewest_hospitals
from securefed.server.membership import Present, gather
from securefed.wire.agreement import FederationAgreement
from securefed.wire.hello import Hello
from securefed.wire.transport import Transport

MOST_BEHIND = 64  # jobs that an old folder may lack: one liar must not use up all numbers


def begin(
    folder: Path,
    agreement: FederationAgreement,
    finished: int,
    transport: Transport,
    tell: Callable[[str], None],
    hello_s: float,
) -> tuple[int, Present]:
    """The number of the next job, written down before anybody hears it, and who takes part in it.

    Args:
        finished: rounds of the run.

    Raises:
        RunError: fewer hospitals than a round needs.
    """
    membership = memberships.newest(folder) + 1
    hospitals, fewest = agreement.roster.names, fewest_hospitals(agreement.settings)
    memberships.note(folder, membership, "joined", finished)
    tell(f"{agreement.name}, agreement {agreement.digest[:16]}, job {membership}: hello")
    asked = Hello(agreement.digest, membership, finished)
    before = anchors.read(folder)
    present = gather(transport, agreement.roster, asked, before, hello_s, tell)
    behind = present.newest - membership
    if len(present.ready) < len(hospitals) and 0 <= behind < MOST_BEHIND:
        # This folder is younger than what hospitals remember: a number that nobody has joined.
        memberships.note(folder, present.newest + 1, "joined", finished)
        asked = Hello(agreement.digest, present.newest + 1, finished)
        present = gather(transport, agreement.roster, asked, before, hello_s, tell)
    anchors.append(folder, present.anchors)
    if len(present.ready) < fewest:
        told = "; ".join(f"{name} refused: {why}" for name, why in present.refused.items())
        raise RunError(
            f"{len(present.ready)} of {len(hospitals)} hospitals are ready, a round needs {fewest}"
            + (f" ({told})" if told else ""),
            hint="each hospital's own log says why; start again when more are there",
        )
    return memberships.newest(folder), present
