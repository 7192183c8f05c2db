"""Verdicts, gravest last. What each one says stands in `attacks.verdicts`, which gives them."""

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """An audit's answer, to one question or to all of them."""

    PASS = "PASS"  # noqa: S105  # a verdict, not a password
    INCONCLUSIVE = "INCONCLUSIVE"
    INVALID = "INVALID"
    FAIL = "FAIL"

    @property
    def exit_code(self) -> int:
        """3 on FAIL, for pipelines; 0 otherwise."""
        return 3 if self is Verdict.FAIL else 0


def gravity(verdict: Verdict | None) -> int:
    """Larger is graver; 0 for a figure that is reported without a verdict."""
    return 0 if verdict is None else 1 + list(Verdict).index(verdict)


def gravest(verdicts: Iterable[Verdict | None]) -> Verdict | None:
    """The gravest of several; None where nothing was judged."""
    return max(verdicts, key=gravity, default=None)
