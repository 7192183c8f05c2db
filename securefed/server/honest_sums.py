"""What comes out of a sum is as untrusted as what a hospital sends.

One liar's vector makes anything of it, and masks hide whose it was. What no honest hospitals can
add up to is refused by name, and the round is lost at most. A lie within these bounds is a poisoned
contribution like any other.
"""

import numpy as np

from securefed.errors import RoundAborted
from securefed.wire.contribution import Layout, Total, counts_layout
from securefed.wire.messages import Request


def require_sum(total: Total, step: Request, survivors: int, layout: Layout) -> None:
    """Return only if honest hospitals, so many of them, can have added up to this.

    Whoever trains has a patient at least; nobody has more than the layout allows in anything that
    is counted; a mean lies within the range of what it is a mean of.

    Raises:
        RoundAborted: they cannot; somebody's vector was none.
    """
    most, mean = survivors * layout.max_patients, total.mean_update
    what = ""
    if step.train and not survivors <= total.patients <= most:
        what = f"{total.patients} patients"
    elif step.train and (mean is None or not (np.abs(mean) <= layout.largest_update).all()):
        what = f"no update, or one beyond {layout.largest_update:g}"
    elif not step.train:
        summed = counts_layout(layout, describe=step.describe)
        what = "" if summed.possible(total, survivors) else "a histogram that is none"
    if not what:
        return
    raise RoundAborted(
        f"the sum of {survivors} hospitals shows {what}: at least one of them sent no contribution",
        hint="masks hide which; look at the hospitals' logs",
        opened=True,
    )
