"""Row groups read ahead of their use, by a bounded number of threads, in bounded memory."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

# Pieces in view ahead of the reader; more would only cost memory.
_MOST_PIECES = 4096


def read_ahead(
    pieces: Iterable[Sequence[int]],
    fetch: Callable[[int], T],
    size: Callable[[int], int],
    threads: int,
    budget: int,
) -> Iterator[dict[int, T]]:
    """For each piece, which is the numbers of some row groups: those row groups, by number.

    A row group is fetched once for all pieces in view, and dropped after the last of them. Pieces come into view while
    less than `budget` bytes, by `size`, are held or being fetched; the next piece always is in view. An exception of
    `fetch` is raised at the first piece that needs that row group.
    """
    source = iter(pieces)
    view: deque[Sequence[int]] = deque()
    futures: dict[int, Future[T]] = {}
    uses: Counter[int] = Counter()
    held = 0
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")
    try:
        while True:
            while not view or (held < budget and len(view) < _MOST_PIECES):
                piece = next(source, None)
                if piece is None:
                    break
                view.append(piece)
                for number in piece:
                    uses[number] += 1
                    if number not in futures:
                        futures[number] = pool.submit(fetch, number)
                        held += size(number)
            if not view:
                return
            piece = view.popleft()
            yield {number: futures[number].result() for number in piece}
            for number in piece:
                uses[number] -= 1
                if not uses[number]:
                    del futures[number], uses[number]
                    held -= size(number)
    finally:
        # Not waited for: a request that hangs would hold up the reader's end, or its error.
        pool.shutdown(wait=False, cancel_futures=True)
