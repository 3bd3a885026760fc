"""The canonical order of samples: a pure function of (dataset, seed, epoch, shuffle window).

The number of workers, replicas, threads or restarts does not change it, nor how the dataset is read.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lottery.seeds import random_stream


def epoch_order(dataset_hash: str, seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """A permutation of the `count` images of a split, int64 [count]: the order in which `epoch` visits them."""
    return random_stream("order", dataset_hash, seed, epoch).permutation(count)


def windowed_order(
    dataset_hash: str, seed: int, epoch: int, row_group_starts: NDArray[np.int64], window: int
) -> NDArray[np.int64]:
    """The order of an epoch that can be read row group by row group: int64 [count].

    The row groups are shuffled, and then the images within each `window` of them in turn, so that no more than
    `window` row groups are held at a time. `row_group_starts` is the first row of each and, last, the number of rows.
    """
    random = random_stream("windowed order", dataset_hash, seed, epoch, window)
    groups = random.permutation(len(row_group_starts) - 1)
    sizes = np.diff(row_group_starts)[groups]
    ends = np.cumsum(sizes)
    # Row group after row group, in the shuffled order of these.
    rows = np.arange(row_group_starts[-1]) + np.repeat(row_group_starts[groups] - (ends - sizes), sizes)
    windows = np.repeat(np.arange(len(groups)) // window, sizes)
    # Stable, so that even a tie has only one outcome.
    order: NDArray[np.int64] = rows[np.lexsort((random.random(len(rows)), windows))]
    return order


def sample_order(
    dataset_hash: str, seed: int, epoch: int, row_group_starts: NDArray[np.int64], window: int | Literal["all"]
) -> NDArray[np.int64]:
    """The order in which an epoch visits a split's images, int64 [count]: each exactly once."""
    if window == "all":
        return epoch_order(dataset_hash, seed, epoch, int(row_group_starts[-1]))
    return windowed_order(dataset_hash, seed, epoch, row_group_starts, window)


def worker_slice(rows: NDArray[np.int64], worker: int, workers: int) -> NDArray[np.int64]:
    """The rows of a global batch that worker `worker` of `workers` takes; together the slices are the batch."""
    return rows[len(rows) * worker // workers : len(rows) * (worker + 1) // workers]
