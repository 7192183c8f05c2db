"""Where tokens of patients are kept: beside their data set, as its key and its ledger are.

Phantoms have no folder: theirs lie in the user's cache, and follow from settings that anybody has.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from securefed.config import Settings
from securefed.data.pseudonyms import key_place, tokens_beside
from securefed.model.encoding import Encode, Told, tokens_of
from securefed.model.token_files import TokenFiles

PHANTOM = "phantom"
EVERY_S = 30.0  # a hospital says how far it is
MOST_OF_PHANTOMS = 2**30  # bytes: nobody misses them, and who runs them did not ask for them


def kept_with(settings: Settings, simulation: str, encode: Encode = tokens_of) -> Encode:
    """How to encode the patients of a run, which are looked for on disk first.

    Args:
        simulation: what the patients are, if not people with scans of their own.
        encode: makes what is not there.
    """
    data = settings.data
    if data.manifest is not None:
        place = tokens_beside(data.site_key or key_place(data.manifest))
        return TokenFiles(place, encode=encode).tokens_of
    if simulation == PHANTOM:
        place = _users_cache() / "phantom.tokens"
        return TokenFiles(place, MOST_OF_PHANTOMS, encode).tokens_of
    return encode  # patients from elsewhere, whose place nobody knows


def told_at_times(tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> Told:
    """Has a line told every half minute, since large images take many of them."""
    spoke = clock()

    def told(done: int, total: int) -> None:
        nonlocal spoke
        if clock() - spoke >= EVERY_S:
            spoke = clock()
            tell(f"encoding: {done:,} of {total:,} slices")

    return told


def _users_cache() -> Path:
    # As the XDG Base Directory Specification has it: a relative path is to be ignored.
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = named if named.is_absolute() else Path(os.path.expanduser("~/.cache"))
    return base / "securefed"
