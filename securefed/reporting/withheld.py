"""Files that evidence speaks against: what they say stands on a page among its faults alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from securefed.record.mismatch import Mismatch


@dataclass(frozen=True)
class Withheld:
    """What evidence found in one run."""

    mismatches: Sequence[Mismatch]

    def __contains__(self, place: str) -> bool:
        return bool(self.why(place))

    def why(self, place: str) -> str:
        """What is wrong with a file, by its path below the run directory; "" for nothing."""
        told = [each.told for each in self.mismatches if fnmatch(place, each.file)]
        return "; ".join(told)
