"""Which coordinates of the shared parameters travel in a round: random-k in blocks.

One share of the coordinates, the same for all hospitals and for the server: only these are trained,
masked and sent in that round, and the mean update is zero elsewhere (random sparsification: Konecny
et al. 2016; compression under masks: Bonawitz et al. 2019; blocks: PREAMBLE, arXiv 2503.11897).

The choice follows from the run's seed and the number of the round, both of which hospitals hold the
server to: nobody announces it, so nobody can announce another, and a round that is asked again has
the same. Whoever writes the agreement chooses the seed, before any hospital has computed anything;
it has no part in privacy, which counts every coordinate that travels.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

#: Coordinates that are drawn together: an eighth of the draws, and small models still mix.
BLOCK = 8

Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True)
class Blocks:
    """Draws `sent` of `parameters` coordinates for each round.

    Attributes:
        parameters: P, of a whole update.
        sent: k of them that travel, 1 to P.
        seed: of the run.
    """

    parameters: int
    sent: int
    seed: int

    @classmethod
    def of(cls, parameters: int, share: float, seed: int) -> "Blocks":
        """So large a share of them, above 0 to 1; one at least."""
        return cls(parameters, max(1, round(share * parameters)), seed)

    def coordinates(self, round_number: int) -> NDArray[np.int64]:
        """Those of a round, increasing, (k,). Each coordinate has the chance k / P."""
        return _coordinates(self, round_number)

    def restrict(self, update: NDArray[Value], round_number: int) -> NDArray[Value]:
        """What travels of an update (P,): (k,)."""
        return update[self.coordinates(round_number)]

    def spread(self, values: NDArray[Value], round_number: int) -> NDArray[Value]:
        """What travelled (k,) as an update (P,), zero elsewhere."""
        update = np.zeros(self.parameters, values.dtype)
        update[self.coordinates(round_number)] = values
        return update


@lru_cache(maxsize=4)  # hospitals of one process, and the steps of a round, ask the same
def _coordinates(blocks: Blocks, round_number: int) -> NDArray[np.int64]:
    everything = blocks.parameters
    said = f"securefed blocks\0{blocks.seed}\0{round_number}\0{everything}\0{blocks.sent}"
    # Hospitals with another numpy have to draw the same, so that its generators have no part in it.
    blocks_there = -(-everything // BLOCK)
    drawn = np.frombuffer(hashlib.shake_128(said.encode()).digest(8 * (blocks_there + 1)), "<u8")
    # On a circle that begins anywhere, so that the shorter block is nobody's for good.
    start = int(drawn[0]) % everything
    order = np.argsort(drawn[1:], kind="stable")[: -(-blocks.sent // BLOCK) + 1]
    places = (order[:, None] * BLOCK + np.arange(BLOCK)).reshape(-1)
    chosen = (places[places < everything][: blocks.sent] + start) % everything
    chosen.sort()
    chosen.flags.writeable = False
    return chosen
