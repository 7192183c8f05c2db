"""Whether a federation's sums are what its hospitals sent, and its ledgers what they trained.

Nobody in a federation could look: it takes the server's recording and every hospital's own.
"""

import numpy as np

from securefed.playback.recorded import RecordedRun
from securefed.playback.server import replay
from securefed.record.recording import content, sightings
from securefed.wire.contribution import Words
from tests.engine.four_sites import Four


def exact_rounds(four: Four) -> list[int]:
    """Play the server's recording again; every round that it has a sum of, checked.

    The sum is that of what its survivors sent before masking, word by word, and the parameters of
    each round follow from the round before.

    Raises:
        AssertionError: a sum is of anything else.
        RunError: the recording contradicts itself.
    """
    job = four.agreement.job(1)
    sent = {name: contributions(four, name) for name in four.sites}
    exact = []
    for number, done in sorted(replay(RecordedRun(four.server, job, {})).rounds.items()):
        if done.summed is None or done.summed.words is None:
            continue
        parts = [sent[name][number] for name in done.summed.survivors]
        total = np.sum(np.stack(parts), axis=0, dtype=np.uint32)
        assert np.array_equal(total, done.summed.words), f"the sum of round {number}"
        exact.append(number)
    return exact


def contributions(four: Four, name: str) -> dict[int, Words]:
    """What a hospital sent before masking, by round; of a repeated round the last."""
    folder = four.sites[name].run(four.agreement.run) / "contributions"
    return {
        each.round: np.frombuffer(content(folder, each), "<u4").astype(np.uint32)
        for each in sightings(folder)
    }


def unsent(four: Four, name: str) -> set[int]:
    """Rounds that a hospital's ledger has, and nothing was sent of.

    Raises:
        AssertionError: something was sent that the ledger does not have.
    """
    reserved = set(four.sites[name].ledger().statement().attempts(four.agreement.run)) - {0}
    sent = set(contributions(four, name))
    assert sent <= reserved, f"{name} sent what its ledger does not have"
    return reserved - sent
