"""What scans of the training look like, as everybody's two sums say: a reference, or none.

Two sums over all hospitals, the second of what follows from the first (model.scan_sums). Where one
does not come, or says too little, training and scores stand, and of the model it is not known what
its scans look like.
"""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from securefed.errors import RoundAborted
from securefed.model.likeness import Reference
from securefed.model.scan_sums import means_of, reference_of
from securefed.model.sharing import Vector
from securefed.wire.contribution import Total
from securefed.wire.plan import Step

log = logging.getLogger(__name__)


def described(
    steps: Sequence[Step], ask: Callable[[Step, Vector], Total], modalities: Sequence[str]
) -> Reference | None:
    """The reference that both sums make; None where they do not.

    Args:
        steps: of the plan, both of them.
        ask: sums everybody's answers to a step and what is sent with it; RoundAborted where none
            comes.
    """
    one, other = steps
    try:
        first = ask(one, np.zeros(0, np.float32)).scans
        means = means_of(first.counts, first.deviation) if first else None
        if means is None:
            log.warning("too few patients for what noise covers: no reference of scans")
            return None
        second = ask(other, means.astype(np.float32).reshape(-1)).scans
    except RoundAborted as error:
        log.warning("no reference of scans: %s", error)
        return None
    found = reference_of(means, second.counts, second.deviation, modalities) if second else None
    if found is None:
        log.warning("noise drowns how far scans are from each other: no reference of them")
    return found
