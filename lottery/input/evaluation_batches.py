"""A split in batches, for evaluation."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from lottery.experiment.sections import Data, Input
from lottery.input import augment
from lottery.input.batch_assembler import BatchAssembler, Images, Labels, open_split
from lottery.input.order import worker_slice
from preprocessing.dataset.opening import Dataset


class EvaluationInput:
    """A split, opened once: its images in file order, centrally cropped.

    `count` is the number of images that are evaluated, by all workers together.

    Args:
        split: its name; None is the evaluation split.
        settings: how to read.
        limit: how many batches are evaluated, the first ones; None is all of them.
        worker, workers: of each batch this is the part of worker `worker` of `workers`.
        mapped: False reads a local dataset as if it were remote, for tests and benchmarks.

    Raises InputError if the crop is larger than the images, or the dataset has no such split.
    """

    def __init__(
        self,
        dataset: Dataset,
        data: Data,
        settings: Input | None = None,
        *,
        split: str | None = None,
        limit: int | None = None,
        worker: int = 0,
        workers: int = 1,
        mapped: bool = True,
    ) -> None:
        settings = settings or Input()
        augment.check(data, dataset.size)
        self._data, self._size = data, dataset.size
        self._shape = augment.image_shape(data, dataset.size)
        self._split = open_split(dataset, split or data.evaluate, settings, mapped)
        self._assembler = BatchAssembler(self._split, settings, dataset.codec == "jpeg")
        available = self._split.count
        self.count = available if limit is None else min(available, limit * data.batch)
        self._worker, self._workers = worker, workers

    @property
    def batch_bytes(self) -> int:
        """Bytes of the images of a worker's largest batch; the same for all workers."""
        return -(-self._data.batch // self._workers) * int(np.prod(self._shape))

    def in_file_order(self, right: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """What holds of this worker's images, in the order of its batches, as bool [count]; False of others' images."""
        found = np.zeros(self.count, bool)
        found[np.concatenate(list(self._rows()))] = right
        return found

    def batches(self, ahead: int = 1) -> Generator[tuple[Images, Labels], None, None]:
        """The split once: uint8 [batch, side, side, 3] and int32 [batch]; the last batch may be partial, or empty.

        Up to `ahead` batches are assembled in a thread while the caller works on those before.
        """
        rows = list(self._rows())
        coming = self._assembled(rows)
        with ThreadPoolExecutor(1, "evaluation") as pool:
            waiting = deque(pool.submit(next, coming) for _ in range(min(ahead, len(rows))))
            try:
                for number in range(len(rows)):
                    batch = waiting.popleft().result()
                    if number + ahead < len(rows):
                        waiting.append(pool.submit(next, coming))
                    yield batch
            finally:  # a caller that has to stop waits for one batch, not for all that lie ahead
                pool.shutdown(cancel_futures=True)

    def _rows(self) -> Iterator[NDArray[np.int64]]:
        """This worker's rows of each batch."""
        for first in range(0, self.count, self._data.batch):
            batch = np.arange(first, min(first + self._data.batch, self.count))
            yield worker_slice(batch, self._worker, self._workers)

    def _assembled(self, pieces: list[NDArray[np.int64]]) -> Iterator[tuple[Images, Labels]]:
        for rows, (blobs, labels) in zip(pieces, self._split.stream(pieces), strict=True):
            images = np.empty((len(rows), *self._shape), np.uint8)
            crops = augment.centre_crops(self._data, self._size, len(rows))
            self._assembler.assemble(blobs, rows, crops, images)
            yield images, labels
