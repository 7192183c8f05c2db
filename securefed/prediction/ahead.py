"""One step ahead: the next of a row of things is made by a thread while somebody uses the last."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items in their order; no more than two of them are there at a time.

    Where making one fails, it fails when that one is asked for.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        making = thread.submit(_next, items)
        while made := making.result():
            making = thread.submit(_next, items)
            yield made[0]


def _next(items: Iterator[Item]) -> tuple[Item] | None:
    for each in items:
        return (each,)
    return None
