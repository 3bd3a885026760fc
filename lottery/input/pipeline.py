"""A dataset as tf.data: batches in the canonical order from any step on.

Training drops the last partial batch of each epoch's order (`lottery.experiment.steps.timeline`): every epoch has
another order, so that no image is left out always. Evaluation keeps it.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from lottery.experiment.config import Data, Input
from lottery.input import augment, shuffle_window
from lottery.input.augment import Views
from lottery.input.order import sample_order, share
from preprocessing.common.buffers import Buffers
from preprocessing.common.errors import InputError
from preprocessing.dataset.opening import Dataset, Reading, Split
from preprocessing.dataset.row_group import Blob

Images = NDArray[np.uint8]
Labels = NDArray[np.int32]

# What a run of batches may take: enough that the call of a compiled function is nothing beside its work.
_RUN_BYTES = 16 * 2**20
_RUN_STEPS = 256
_MOST_THREADS = 8
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_KEPT_BYTES = 2**30  # of freed memory, which malloc keeps for the next step
_FEW_BYTES = 2**20  # of pixels in a batch, below which handing it to threads costs more than they save


class TrainingInput:
    """The training split's batches. Step s has the s-th batch of the canonical order, whoever asks and wherever from.

    Args:
        seed: of the order and of the augmentation.
        settings: how to read.
        worker, workers: of each global batch this is the share of worker `worker` of `workers`.
        mapped: False reads a local dataset as if it were far away, for tests and benchmarks.

    Raises InputError where the crop is larger than the images, or where the shuffle window is more than can be held.
    """

    def __init__(
        self,
        dataset: Dataset,
        data: Data,
        seed: int,
        settings: Input | None = None,
        *,
        worker: int = 0,
        workers: int = 1,
        mapped: bool = True,
    ) -> None:
        settings = settings or Input()
        augment.check(data, dataset.size)
        self._data, self._seed, self._size = data, seed, dataset.size
        self._split = dataset.split(data.train, _reading(settings, mapped))
        shuffle_window.check(dataset, self._split, settings)
        self._worker, self._workers = worker, workers
        self._share = len(share(np.arange(data.batch), worker, workers))
        self._steps_per_epoch = self._split.count // data.batch
        starts, window = self._split.row_group_starts, settings.shuffle_window
        self._order = lru_cache(maxsize=2)(lambda epoch: sample_order(dataset.hash, seed, epoch, starts, window))
        self._buffers = Buffers()
        self._painter = _Painter(self._split, settings, _work_is_long(dataset, data))

    @property
    def longest_run(self) -> int:
        """How many batches one element of the stream should hold at most; the same for any number of workers."""
        return max(1, min(_RUN_STEPS, _RUN_BYTES // (self._data.batch * augment.side(self._data, self._size) ** 2 * 3)))

    def batch(self, step: int) -> tuple[Images, Labels]:
        """The batch of a step, or this worker's share of it: uint8 [batch, side, side, 3] and int32 [batch]."""
        rows = self._rows(step)
        blobs, labels = self._split.stored(rows)
        images = np.empty(self._shape(1)[1:], np.uint8)
        self._painter.paint(blobs, rows, *self._views(step), images)
        return images, labels

    def stream(self, runs: Iterable[tuple[int, int]]) -> Iterator[tuple[Any, Any]]:
        """`dataset(runs)`, element by element; `InputError` where the data cannot be read."""
        failures: list[InputError] = []
        try:
            for element in self._dataset(runs, failures):
                _keep_freed_memory()
                yield element
        except tf.errors.OpError:
            if failures:  # TensorFlow has made a traceback in many lines of it
                raise failures[0] from None
            raise

    def dataset(self, runs: Iterable[tuple[int, int]]) -> tf.data.Dataset:
        """For each [first, last) of `runs` its batches: uint8 [steps, batch, side, side, 3], int32 [steps, batch].

        Runs are read ahead in a thread of tf.data. They are gone through more than once: no iterator.
        """
        return self._dataset(runs, [])

    def _dataset(self, runs: Iterable[tuple[int, int]], failures: list[InputError]) -> tf.data.Dataset:
        def generate() -> Iterator[tuple[Images, Labels]]:
            try:
                yield from self._runs(runs)
            except InputError as error:
                failures.append(error)
                raise

        _, *shape = self._shape(1)
        signature = (tf.TensorSpec([None, *shape], tf.uint8), tf.TensorSpec([None, self._share], tf.int32))
        options = tf.data.Options()
        # There is nothing to tune, and the tuner's thread holds up the end of an iterator: 35 s were seen.
        options.autotune.enabled = False
        options.threading.private_threadpool_size = 1
        return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(2).with_options(options)

    def _runs(self, runs: Iterable[tuple[int, int]]) -> Iterator[tuple[Images, Labels]]:
        stored = self._split.stream(self._rows(step) for first, last in runs for step in range(first, last))
        for first, last in runs:
            images = self._buffers.take(self._shape(last - first))
            labels = np.empty((last - first, self._share), np.int32)
            for place, step in enumerate(range(first, last)):
                blobs, labels[place] = next(stored)
                self._painter.paint(blobs, self._rows(step), *self._views(step), images[place])
            yield images, labels

    def _shape(self, steps: int) -> tuple[int, int, int, int, int]:
        to = augment.side(self._data, self._size)
        return steps, self._share, to, to, 3

    def _rows(self, step: int) -> NDArray[np.int64]:
        epoch, position = divmod(step, self._steps_per_epoch)
        first = position * self._data.batch
        return share(self._order(epoch)[first : first + self._data.batch], self._worker, self._workers)

    def _views(self, step: int) -> tuple[Views, int]:
        """The views of a step's global batch, and which of them is this worker's first."""
        epoch, position = divmod(step, self._steps_per_epoch)
        views = augment.training_views(self._data, self._size, self._seed, epoch, position)
        return views, self._data.batch * self._worker // self._workers


def evaluation_batches(
    dataset: Dataset,
    data: Data,
    settings: Input | None = None,
    *,
    worker: int = 0,
    workers: int = 1,
    mapped: bool = True,
) -> Iterator[tuple[Images, Labels]]:
    """The evaluation split once, in file order, centrally cropped; the last batch may be partial.

    Batches are uint8 [batch, side, side, 3] and int32 [batch]: of each the share of worker `worker` of `workers`,
    which of the last one may be empty.
    """
    settings = settings or Input()
    augment.check(data, dataset.size)
    split = dataset.split(data.evaluate, _reading(settings, mapped))
    painter = _Painter(split, settings, dataset.codec == "jpeg")
    batches = [np.arange(first, min(first + data.batch, split.count)) for first in range(0, split.count, data.batch)]
    pieces = [share(rows, worker, workers) for rows in batches]
    stored = zip(pieces, split.stream(pieces), strict=True)

    def next_batch() -> tuple[Images, Labels] | None:
        for rows, (blobs, labels) in stored:
            images = np.empty((len(rows), *image_shape(dataset, data)), np.uint8)
            painter.paint(blobs, rows, augment.centre_views(data, dataset.size, len(rows)), 0, images)
            return images, labels
        return None

    with ThreadPoolExecutor(1, "evaluation") as pool:  # makes the next batch while this one is scored
        coming = pool.submit(next_batch)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next_batch)
            yield batch


def image_shape(dataset: Dataset, data: Data) -> tuple[int, int, int]:
    """[height, width, channels] of a cropped image."""
    augment.check(data, dataset.size)
    to = augment.side(data, dataset.size)
    return to, to, 3


def _work_is_long(dataset: Dataset, data: Data) -> bool:
    """Whether a training image takes more than a copy."""
    return dataset.codec == "jpeg" or data.crop_scale is not None or bool(data.colour)


def _cores() -> int:
    return min(_MOST_THREADS, len(os.sched_getaffinity(0)))


def _keep_freed_memory() -> None:
    """Has malloc keep what is freed and take large blocks from it too, instead of asking the system for each anew.

    By itself glibc maps every block of more than 32 MiB and unmaps it when it is freed: then each batch of floats
    (38 MB for 64 images of 224 px) is new pages, and to have them zeroed takes five times as long as to normalise the
    images. TensorFlow 2.21's generator dataset moreover lowers the trim threshold to 128 KiB for the whole process when
    its first element is made, and every step of a small model pays for page faults. What is kept is no more than the
    process has needed at once.
    """
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
            libc.mallopt(_M_MMAP_MAX, 0)


class _Painter:
    """Decodes, crops and copies images into batches, in several threads where there is enough to do."""

    def __init__(self, split: Split, settings: Input, work_is_long: bool) -> None:
        self._split = split
        threads = _cores() if settings.threads == "auto" else settings.threads
        # Copies keep a thread busy with memory and Python's lock alone: one more than that gains nothing, and is better
        # left to whoever takes the batches.
        self._threads = threads if work_is_long else max(1, threads - 1)
        self._pool = ThreadPoolExecutor(self._threads - 1, "input") if self._threads > 1 else None
        cv2.setNumThreads(1)  # the threads are ours

    def paint(self, blobs: list[Blob], rows: NDArray[np.int64], views: Views, first: int, out: Images) -> None:
        """Puts stored image i, row `rows[i]` of the split, into `out[i]` as view `first + i` of the batch has it."""

        def paint_part(start: int, end: int) -> None:
            for index in range(start, end):
                views.render(first + index, self._split.image(blobs[index], int(rows[index])), out[index])

        if self._pool is None or out.nbytes < _FEW_BYTES:
            paint_part(0, len(blobs))
            return
        edges = np.linspace(0, len(blobs), self._threads + 1).astype(int).tolist()
        others = [self._pool.submit(paint_part, *part) for part in itertools.pairwise(edges[1:])]
        paint_part(edges[0], edges[1])
        for other in others:
            other.result()


def _reading(settings: Input, mapped: bool) -> Reading:
    return Reading(settings.cache_dir, settings.cache_bytes, settings.read_threads, mapped)
