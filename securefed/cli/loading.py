"""Loading what a command works with: torch, Opacus, and what of this package needs them."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Load modules without looking for garbage among them, which would take a fifth of the time.

    They stay as long as the process, so that no later look has to go over them either.
    """
    if "torch" in sys.modules or not gc.isenabled():  # loaded already, or somebody else's choice
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
