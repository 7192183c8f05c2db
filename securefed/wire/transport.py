"""How bytes reach the clients: one method, with the in-process transport beside the seam.

`Transport.stage` sends each named client its request and returns the replies that arrived by the
deadline. Missing replies are normal: whoever misses a stage is dropped from the round. An engine
for real machines implements the same two methods; nothing above knows the difference.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

Handler = Callable[[bytes], bytes]

log = logging.getLogger(__name__)


class Transport(Protocol):
    """Sends requests, returns what came back in time."""

    def clients(self) -> list[str]:
        """Names of the clients that can be asked."""
        ...

    def stage(self, requests: Mapping[str, bytes], deadline_s: float) -> dict[str, bytes]:
        """Send each client its own request; return the replies that arrived by the deadline."""
        ...
