"""The training split's batches by step, without TensorFlow: step s has the s-th batch of the canonical order.

The last partial batch of each epoch's order is dropped (`lottery.experiment.steps.timeline`). Every epoch has another
order, so no image is left out of every epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lottery.experiment.sections import Data, Input
from lottery.input import augment, shuffle_window
from lottery.input.augment import CropParameters
from lottery.input.batch_assembler import BatchAssembler, Images, Labels, open_split
from lottery.input.order import sample_order, worker_slice
from preprocessing.common.buffers import Buffers
from preprocessing.dataset.opening import Dataset

# What a run of batches may take: enough that calling a compiled function costs nothing beside its work.
_RUN_BYTES = 16 * 2**20
_RUN_STEPS = 256


class TrainingSteps:
    """Batches of the training split by step, the same from any start. Safe for one thread at a time.

    `worker_batch` is how many images of each batch this worker has, `stored_bytes` the most that an image takes in the
    dataset, `mapped` whether images lie in mapped memory.

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
        settings: Input,
        *,
        worker: int = 0,
        workers: int = 1,
        mapped: bool = True,
    ) -> None:
        augment.check(data, dataset.size)
        self._data, self._seed, self._size = data, seed, dataset.size
        self._split = open_split(dataset, data.train, settings, mapped)
        shuffle_window.check(dataset, self._split, settings)
        self._worker, self._workers = worker, workers
        self.worker_batch = len(worker_slice(np.arange(data.batch), worker, workers))
        self.mapped, self.stored_bytes = self._split.mapped, dataset.size**2 * 3
        self._steps_per_epoch = self._split.count // data.batch
        starts, window = self._split.row_group_starts, settings.shuffle_window
        self._order = lru_cache(maxsize=2)(
            lambda epoch: sample_order(dataset.content_hash, seed, epoch, starts, window)
        )
        self._buffers = Buffers()
        self._assembler = BatchAssembler(self._split, settings, _work_is_long(dataset, data))

    @property
    def longest_run(self) -> int:
        """How many batches a run should have at most; the same for any number of workers."""
        return longest_run(self._data, self._size)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[height, width, channels] of an image."""
        return self._side, self._side, 3

    def batch(self, step: int) -> tuple[Images, Labels]:
        """The batch of a step, or this worker's part of it: uint8 [batch, side, side, 3] and int32 [batch]."""
        images = np.empty((self.worker_batch, *self.image_shape), np.uint8)
        labels = np.empty(self.worker_batch, np.int32)
        self.fill(step, 0, images, labels)
        return images, labels

    def fill(self, step: int, first: int, images: Images, labels: Labels) -> None:
        """Writes images and labels of a step's batch, from this worker's image `first` on, as many as fit."""
        part = slice(first, first + len(labels))
        rows = self._rows(step)[part]
        blobs, labels[:] = self._split.stored(rows)
        self._assembler.assemble(blobs, rows, self._assembled_crops(step, part), images)

    def runs(self, runs: Iterable[tuple[int, int]]) -> Iterator[tuple[Images, Labels]]:
        """For each [first, last) of `runs` its batches: uint8 [steps, batch, side, side, 3], int32 [steps, batch]."""
        stored = self._split.stream(self._rows(step) for first, last in runs for step in range(first, last))
        for first, last in runs:
            images = self._buffers.take((last - first, self.worker_batch, *self.image_shape))
            labels = np.empty((last - first, self.worker_batch), np.int32)
            for index, step in enumerate(range(first, last)):
                blobs, labels[index] = next(stored)
                self._assembler.assemble(blobs, self._rows(step), self._assembled_crops(step), images[index])
            yield images, labels

    def release(self) -> None:
        """Takes the mapped files out of this process' resident memory; what is read again comes back."""
        self._split.release()

    def crops(self, first: int, last: int) -> CropParameters:
        """What the device crops of this worker's part of steps [first, last); all arrays are [steps, batch, ...]."""
        crops = [self._drawn_crops(step) for step in range(first, last)]
        factors = [crop.colour_factors for crop in crops if crop.colour_factors is not None]
        return CropParameters(
            np.stack([crop.boxes for crop in crops]),
            np.stack([crop.flipped for crop in crops]),
            np.stack(factors) if factors else None,
        )

    @property
    def _on_device(self) -> bool:
        return self._data.augment == "device"

    @property
    def _side(self) -> int:
        """Pixels per side of the images that are assembled."""
        return assembled_side(self._data, self._size)

    @property
    def _first(self) -> int:
        """The index of this worker's first image in a global batch."""
        return self._data.batch * self._worker // self._workers

    def _rows(self, step: int) -> NDArray[np.int64]:
        epoch, position = divmod(step, self._steps_per_epoch)
        first = position * self._data.batch
        return worker_slice(self._order(epoch)[first : first + self._data.batch], self._worker, self._workers)

    def _assembled_crops(self, step: int, part: slice = slice(None)) -> CropParameters:
        """What is cut out when the images `part` of this worker's batch are assembled."""
        if self._on_device:
            return augment.stored_crops(self._size, len(range(self.worker_batch)[part]))
        return self._drawn_crops(step, part)

    def _drawn_crops(self, step: int, part: slice = slice(None)) -> CropParameters:
        """The random crops of the images `part` of this worker's batch."""
        epoch, position = divmod(step, self._steps_per_epoch)
        own = range(self._first, self._first + self.worker_batch)[part]
        return augment.training_crops(self._data, self._size, self._seed, epoch, position, slice(own.start, own.stop))


def assembled_side(data: Data, size: int) -> int:
    """Pixels per side of the images that the host assembles, of a dataset of `size` pixels."""
    return size if data.augment == "device" else augment.side(data, size)


def longest_run(data: Data, size: int) -> int:
    """How many batches a run should have at most: 256, or as many as fit into 16 MiB, but one at least."""
    return max(1, min(_RUN_STEPS, _RUN_BYTES // (data.batch * assembled_side(data, size) ** 2 * 3)))


def _work_is_long(dataset: Dataset, data: Data) -> bool:
    """Whether a training image takes more than a copy."""
    on_host = data.augment == "host"
    return dataset.codec == "jpeg" or (on_host and (data.crop_scale is not None or bool(data.colour)))
