"""Stored images -> batches: decoded, cropped and copied by several threads."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from lottery.experiment.sections import Input
from lottery.input.augment import CropParameters
from preprocessing.dataset.opening import Dataset, Reading, Split
from preprocessing.dataset.row_group import Blob

Images = NDArray[np.uint8]
Labels = NDArray[np.int32]

_MOST_THREADS = 8
_FEW_BYTES = 2**20  # of pixels in a batch; below this, threads cost more than they save


class BatchAssembler:
    """Decodes, crops and copies the images of a split into batches.

    Args:
        split: whose images they are.
        settings: how many threads.
        work_is_long: whether an image takes more than a copy.
    """

    def __init__(self, split: Split, settings: Input, work_is_long: bool) -> None:
        self._split = split
        count = threads(settings)
        # Threads that only copy wait for memory and for Python's lock: the last one gains nothing, and its core is
        # better left to the training.
        self._threads = count if work_is_long else max(1, count - 1)
        self._pool = ThreadPoolExecutor(self._threads - 1, "input") if self._threads > 1 else None
        cv2.setNumThreads(1)  # the threads are ours

    def assemble(self, blobs: list[Blob], rows: NDArray[np.int64], crops: CropParameters, out: Images) -> None:
        """Writes n images, uint8 [n, side, side, 3]: stored image i, row `rows[i]` of the split, by crop i."""

        def assemble_part(start: int, end: int) -> None:
            for index in range(start, end):
                crops.apply(index, self._split.image(blobs[index], int(rows[index])), out[index])

        if self._pool is None or out.nbytes < _FEW_BYTES:
            assemble_part(0, len(blobs))
            return
        edges = np.linspace(0, len(blobs), self._threads + 1).astype(int).tolist()
        others = [self._pool.submit(assemble_part, *part) for part in itertools.pairwise(edges[1:])]
        assemble_part(edges[0], edges[1])
        for other in others:
            other.result()


def open_split(dataset: Dataset, name: str, settings: Input, mapped: bool) -> Split:
    """A split, read as the experiment says; `mapped=False` reads a local dataset as if it were remote."""
    return dataset.split(name, Reading(settings.cache_dir, settings.cache_bytes, settings.read_threads, mapped))


def threads(settings: Input, cores: int | None = None) -> int:
    """How many threads, or processes, assemble batches: by default one a core, at most 8.

    `cores` are the task's; None counts those that this process may use.
    """
    if settings.threads != "auto":
        return settings.threads
    return min(_MOST_THREADS, len(os.sched_getaffinity(0)) if cores is None else cores)
