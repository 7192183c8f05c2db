"""What one hospital sent in each round of a masked run, before masking: its own record.

The client keeps it under `hospitals/NAME/contributions` (hospital.client), since a hospital knows
what it sent. Only that hospital may look, or a coalition that it is part of. Without masks there is
no such record: the contribution is in the messages.
"""

import numpy as np

from protocols.errors import ProtocolError
from securefed.errors import RunError
from securefed.model.sharing import Vector
from securefed.playback.recorded import RecordedRun
from securefed.record.recording import Sighting, content, sightings
from securefed.wire.contribution import Layout, Words


class SentContributions:
    """One hospital's contributions by round; of a repeated round the last one.

    Raises:
        RunError: there is no record here, or its index is damaged.
    """

    def __init__(self, run: RecordedRun, name: str) -> None:
        self._name = name
        self._folder = run.own(name) / "contributions"
        self._seen: dict[int, Sighting] = {each.round: each for each in sightings(self._folder)}

    def words(self, number: int, layout: Layout) -> Words | None:
        """Ring vector of a round, (words,); None if nothing was sent, or it was not kept.

        Raises:
            RunError: it is damaged.
        """
        seen = self._seen.get(number)
        if seen is None or seen.offset is None:
            return None
        data, length = content(self._folder, seen), layout.words
        if len(data) != 4 * length:
            raise RunError(
                f"what {self._name} sent in round {number} has {len(data)} bytes, not {4 * length}",
                hint=f"{self._folder} is damaged; make the run again",
            )
        return np.frombuffer(data, "<u4").astype(np.uint32)

    def update(self, number: int, layout: Layout) -> tuple[Vector, int] | None:
        """Update (P,) and patients of a round; None as in `words`."""
        words = self.words(number, layout)
        return None if words is None else decoded(words, layout, number, self._name)


def decoded(words: Words, layout: Layout, number: int, name: str) -> tuple[Vector, int] | None:
    """One contribution's update (P,) and patients; None if it trained on nobody.

    Under shared noise the update is the SGD step that the hospital's own part would make.

    Raises:
        RunError: the words are not one hospital's contribution.
    """
    try:
        total = layout.decode(words, number)
    except ProtocolError as error:
        raise RunError(f"round {number}: no contribution of {name}: {error}") from None
    if total.patients > layout.max_patients:
        raise RunError(
            f"round {number}: what is left of the sum is no contribution of {name}",
            hint="the record of what another hospital sent is damaged; make the run again",
        )
    if total.mean_update is None:
        return None
    return total.mean_update.astype(np.float32), total.patients
