"""Several samples at a time, answers in their order, memory for a few."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4  # items per thread that are begun before the first of them is taken: one slow answer does not stop the rest


def in_order(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Apply a function in threads.

    Args:
        function: Called from several threads when `workers` is above 1, else from this one.
        items: Its arguments, taken only a little ahead of the results.
        workers: Number of threads.

    Yields:
        Its results in the order of the items.

    Raises:
        Exception: Whatever the function raises. Items not begun are dropped; calls under way end first.

    >>> list(in_order(abs, [-3, 1, -2], workers=2))
    [3, 1, 2]
    """
    if workers == 1:
        yield from map(function, items)
        return
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= _AHEAD * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
