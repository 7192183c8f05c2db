"""Ctrl-C as a wish that is asked for: long work looks at it where it can stop without loss.

SIGTERM and SIGHUP do what Ctrl-C does at that moment (securefed/cli/app.py), and so this is theirs.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Whether somebody has asked to stop; who asks twice is not made to wait (KeyboardInterrupt).

    In the main thread of a process only, as signals are.
    """
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)
