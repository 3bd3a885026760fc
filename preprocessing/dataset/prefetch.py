"""Row groups read ahead of their use, by a bounded number of threads, in bounded memory."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

# Pieces that are looked at ahead of the reader; more would only cost memory of their own.
_FARTHEST = 4096


def read_ahead(
    pieces: Iterable[Sequence[int]],
    fetch: Callable[[int], T],
    size: Callable[[int], int],
    threads: int,
    budget: int,
) -> Iterator[dict[int, T]]:
    """For each piece, the numbers of some row groups, what `fetch` gives for each of them.

    A row group is fetched once for all the pieces in view and dropped after the last of those. Pieces come into view
    while less than `budget` bytes, by `size`, are held or on their way; the next piece always is. An exception of
    `fetch` is raised at the first piece that needs it.
    """
    source = iter(pieces)
    view: deque[Sequence[int]] = deque()
    futures: dict[int, Future[T]] = {}
    uses: Counter[int] = Counter()
    held = 0
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")
    try:
        while True:
            while not view or (held < budget and len(view) < _FARTHEST):
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
        # Not waited for: what hangs in the network would hold up the end, or the error, of the reader.
        pool.shutdown(wait=False, cancel_futures=True)
