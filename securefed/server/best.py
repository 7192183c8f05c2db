"""Which parameters become the final model where that is not simply the last round's.

Scores are totals over everybody's held-out patients, exact, as the server has them anyway: nothing
more is asked of anybody than `federation.evaluate_every` asks. Rounds that are not trained are not
reserved by anybody: what they would have cost stays in the budgets.

Not protected: held-out patients. The choice is one more thing that follows from them, and the best
of many scorings looks better than it is (`securefed.reporting.utility.cautions`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from securefed.errors import RunError

Values = NDArray[np.float64]
_AUC, _AFTER, _WORSE, _SHARED = "best.auc", "best.after", "best.worse", "best.shared"


@dataclass
class Best:
    """The best parameters so far.

    Attributes:
        patience: scorings in a row that may be no better.
        auc: of the best ones; None before anything was scored.
        after: the round that they were the result of; 0 for what the run began with.
        worse: scorings since then.
        shared: (P,).
    """

    patience: int
    auc: float | None = None
    after: int = 0
    worse: int = 0
    shared: Values | None = field(default=None, repr=False)

    def scored(self, after: int, shared: Values, auc: float | None) -> None:
        """Take note of a scoring; equal is not better, and one without an AUC tells nothing."""
        if auc is None:
            return
        if self.auc is None or auc > self.auc:
            self.auc, self.after, self.worse, self.shared = auc, after, 0, shared.copy()
        elif after > self.after:
            self.worse += 1

    @property
    def stops(self) -> bool:
        """Whether training should end."""
        return self.worse >= self.patience

    @property
    def may_stop(self) -> bool:
        """Whether the next scoring may be the last."""
        return self.worse + 1 >= self.patience

    def state(self) -> dict[str, Values]:
        """What `restore` takes."""
        if self.auc is None or self.shared is None:
            return {}
        numbers = {_AUC: self.auc, _AFTER: self.after, _WORSE: self.worse}
        return {_SHARED: self.shared, **{key: np.array([one]) for key, one in numbers.items()}}

    def restore(self, memory: dict[str, Values], finished: int, parameters: int) -> None:
        """Take what is of this out of a server's state, of a run with P parameters.

        Raises:
            RunError: it is none of a run that has finished so many rounds.
        """
        kept = {key: memory.pop(key) for key in (_AUC, _AFTER, _WORSE, _SHARED) if key in memory}
        if not kept:
            return
        try:
            auc, after, worse = (_number(kept, key) for key in (_AUC, _AFTER, _WORSE))
            shared = kept[_SHARED]
            possible = 0 <= auc <= 1 and 0 <= after <= finished and 0 <= worse <= finished
        except (KeyError, ValueError):
            possible = False
        fits = possible and shared.shape == (parameters,) and np.isfinite(shared).all()
        if not (fits and after.is_integer()):
            raise RunError("the server's check point does not say which round was best so far")
        self.auc, self.after, self.worse, self.shared = auc, int(after), int(worse), shared


def _number(kept: Mapping[str, Values], key: str) -> float:
    return float(kept[key].item())
