"""The training split as tf.data: batches in the canonical order, from any step on.

The last partial batch of each epoch's order is dropped (`lottery.experiment.steps.timeline`). Every epoch has another
order, so no image is left out of every epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from lottery.experiment.config import Data, Input
from lottery.input import augment, freed_memory, shuffle_window
from lottery.input.augment import CropParameters
from lottery.input.batch_assembler import BatchAssembler, Images, Labels, open_split
from lottery.input.order import sample_order, worker_slice
from preprocessing.common.buffers import Buffers
from preprocessing.common.errors import InputError
from preprocessing.dataset.opening import Dataset

# What a run of batches may take: enough that calling a compiled function costs nothing beside its work.
_RUN_BYTES = 16 * 2**20
_RUN_STEPS = 256


class TrainingInput:
    """The training split's batches. Step s has the s-th batch of the canonical order, whoever asks, from any start.

    Args:
        seed: of the order and of the augmentation.
        settings: how to read.
        worker, workers: of each global batch this is the part of worker `worker` of `workers`.
        mapped: False reads a local dataset as if it were remote, for tests and benchmarks.

    Raises InputError if the crop is larger than the images, or the shuffle window does not fit into memory.
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
        self._split = open_split(dataset, data.train, settings, mapped)
        shuffle_window.check(dataset, self._split, settings)
        self._worker, self._workers = worker, workers
        self._worker_batch = len(worker_slice(np.arange(data.batch), worker, workers))
        self._steps_per_epoch = self._split.count // data.batch
        starts, window = self._split.row_group_starts, settings.shuffle_window
        self._order = lru_cache(maxsize=2)(
            lambda epoch: sample_order(dataset.content_hash, seed, epoch, starts, window)
        )
        self._buffers = Buffers()
        self._assembler = BatchAssembler(self._split, settings, _work_is_long(dataset, data))

    @property
    def longest_run(self) -> int:
        """How many batches one element of the stream should hold at most; the same for any number of workers."""
        return max(1, min(_RUN_STEPS, _RUN_BYTES // (self._data.batch * augment.side(self._data, self._size) ** 2 * 3)))

    def batch(self, step: int) -> tuple[Images, Labels]:
        """The batch of a step, or this worker's part of it: uint8 [batch, side, side, 3] and int32 [batch]."""
        rows = self._rows(step)
        blobs, labels = self._split.stored(rows)
        images = np.empty(self._shape(1)[1:], np.uint8)
        self._assembler.assemble(blobs, rows, *self._crops(step), images)
        return images, labels

    def stream(self, runs: Iterable[tuple[int, int]]) -> Iterator[tuple[Any, Any]]:
        """`dataset(runs)`, element by element. Raises InputError if the data cannot be read."""
        failures: list[InputError] = []
        try:
            for element in self._dataset(runs, failures):
                freed_memory.keep()
                yield element
        except tf.errors.OpError:
            if failures:  # TensorFlow has made a traceback of many lines of it
                raise failures[0] from None
            raise

    def dataset(self, runs: Iterable[tuple[int, int]]) -> tf.data.Dataset:
        """For each [first, last) of `runs` its batches: uint8 [steps, batch, side, side, 3], int32 [steps, batch].

        Runs are read ahead in a thread of tf.data. `runs` is iterated more than once, so it must not be an iterator.
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
        signature = (tf.TensorSpec([None, *shape], tf.uint8), tf.TensorSpec([None, self._worker_batch], tf.int32))
        options = tf.data.Options()
        # There is nothing to tune, and the tuner's thread delays the end of an iterator, by up to 35 s.
        options.autotune.enabled = False
        options.threading.private_threadpool_size = 1
        return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(2).with_options(options)

    def _runs(self, runs: Iterable[tuple[int, int]]) -> Iterator[tuple[Images, Labels]]:
        stored = self._split.stream(self._rows(step) for first, last in runs for step in range(first, last))
        for first, last in runs:
            images = self._buffers.take(self._shape(last - first))
            labels = np.empty((last - first, self._worker_batch), np.int32)
            for index, step in enumerate(range(first, last)):
                blobs, labels[index] = next(stored)
                self._assembler.assemble(blobs, self._rows(step), *self._crops(step), images[index])
            yield images, labels

    def _shape(self, steps: int) -> tuple[int, int, int, int, int]:
        return steps, self._worker_batch, *augment.image_shape(self._data, self._size)

    def _rows(self, step: int) -> NDArray[np.int64]:
        epoch, position = divmod(step, self._steps_per_epoch)
        first = position * self._data.batch
        return worker_slice(self._order(epoch)[first : first + self._data.batch], self._worker, self._workers)

    def _crops(self, step: int) -> tuple[CropParameters, int]:
        """The crops of a step's global batch, and the index of this worker's first one."""
        epoch, position = divmod(step, self._steps_per_epoch)
        crops = augment.training_crops(self._data, self._size, self._seed, epoch, position)
        return crops, self._data.batch * self._worker // self._workers


def _work_is_long(dataset: Dataset, data: Data) -> bool:
    """Whether a training image takes more than a copy."""
    return dataset.codec == "jpeg" or data.crop_scale is not None or bool(data.colour)
