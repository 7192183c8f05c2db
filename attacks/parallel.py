"""Work shared out to threads, each with single-threaded tensor operations.

Shadow models are many small operations. Split inside the operation, such work gains little on an
idle machine and becomes many times slower on a busy one, where every operation waits for the
slowest core. So independent pieces run side by side and each operation stays on its own core.
Results come back in order and do not depend on how many threads there were.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
Step = Callable[[], None]


class _Stopped(Exception):
    """A piece of work ends early because the whole does."""


def side_by_side(
    work: Callable[[Item, Step], Result],
    items: Sequence[Item],
    *,
    steps: int,
    progress: Callable[[float], None],
) -> list[Result]:
    """`work` on every item, on as many threads as there are cores.

    An exception in one piece, or Ctrl-C, ends the others at their next step and is raised here.

    Args:
        work: takes an item and a function to call after each of its steps.
        steps: how many such calls an item makes, for `progress`.
        progress: told the finished share, 0 to 1, by one thread at a time.
    """
    lock, stop, done = threading.Lock(), threading.Event(), 0

    def step() -> None:
        nonlocal done
        if stop.is_set():
            raise _Stopped
        with lock:
            done += 1
            progress(done / (steps * len(items)))

    def alone(item: Item) -> Result:
        torch.set_num_threads(1)  # counts for this thread
        return work(item, step)

    before = torch.get_num_threads()
    threads = ThreadPoolExecutor(max(1, min(len(items), os.cpu_count() or 1)))
    try:
        futures = [threads.submit(alone, item) for item in items]
        return [future.result() for future in futures]
    except BaseException:
        stop.set()
        raise
    finally:
        threads.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
