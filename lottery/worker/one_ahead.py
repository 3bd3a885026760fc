"""What a thread makes while its result before is in use."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def one_ahead(elements: Generator[T, None, None]) -> Generator[T, None, None]:
    """The elements in their order. A thread makes the next one while the caller uses the one before.

    An exception of `elements` comes when its element is asked for. Closing it waits for the element that is being
    made, and closes `elements`.
    """
    pool = ThreadPoolExecutor(1, "one-ahead")
    try:
        coming = pool.submit(_next, elements)
        while element := coming.result():
            coming = pool.submit(_next, elements)
            yield element.pop()  # which is not kept here: it may be large
    finally:
        pool.shutdown(cancel_futures=True)
        elements.close()


def _next(elements: Generator[T, None, None]) -> list[T]:
    """The next element, alone in a list; an empty list at the end."""
    for element in elements:
        return [element]
    return []
