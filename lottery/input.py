"""A dataset as tf.data: batches in the canonical order from any step on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from lottery.experiment import Data
from lottery.order import epoch_order, random_stream
from preprocessing.dataset import Dataset, Split
from preprocessing.errors import InputError

Images = NDArray[np.uint8]
Labels = NDArray[np.int32]

# What a run of batches may take: enough that the call of a compiled function is nothing beside its work.
_RUN_BYTES = 16 * 2**20
_RUN_STEPS = 256


class TrainingInput:
    """The training split's batches. Step s has the s-th batch of the canonical order, whoever asks and wherever from.

    Raises InputError where the crop is larger than the images.
    """

    def __init__(self, dataset: Dataset, data: Data, seed: int, *, worker: int = 0, workers: int = 1) -> None:
        self._split: Split = dataset.split(data.train)
        self._data, self._seed = data, seed
        self._share = slice(data.batch * worker // workers, data.batch * (worker + 1) // workers)
        self._side = _side(dataset, data)
        self._steps_per_epoch = self._split.count // data.batch
        self._order = lru_cache(maxsize=2)(lambda epoch: epoch_order(dataset.hash, seed, epoch, self._split.count))

    @property
    def longest_run(self) -> int:
        """How many batches one element of the stream should hold at most."""
        return max(1, min(_RUN_STEPS, _RUN_BYTES // (self._data.batch * self._side**2 * 3)))

    def batch(self, step: int) -> tuple[Images, Labels]:
        """The batch of a step: uint8 [batch, side, side, 3] and int32 [batch]."""
        epoch, position = divmod(step, self._steps_per_epoch)
        first = position * self._data.batch
        images, labels = self._split.gather(self._order(epoch)[first : first + self._data.batch])
        if self._data.crop is not None or self._data.flip:
            images = _augment(
                images, self._side, self._data.flip, random_stream("augment", self._seed, epoch, position)
            )
        return images, labels

    def stream(self, runs: Sequence[tuple[int, int]]) -> tf.data.Dataset:
        """For each [first, last) of `runs` its batches: uint8 [steps, batch, side, side, 3], int32 [steps, batch].

        Runs are read ahead in a thread of tf.data.
        """

        def generate() -> Iterator[tuple[Images, Labels]]:
            for first, last in runs:
                batches = [
                    (images[self._share], labels[self._share])
                    for images, labels in (self.batch(step) for step in range(first, last))
                ]
                yield np.stack([images for images, _ in batches]), np.stack([labels for _, labels in batches])

        batch, side = self._share.stop - self._share.start, self._side
        signature = (
            tf.TensorSpec([None, batch, side, side, 3], tf.uint8),
            tf.TensorSpec([None, batch], tf.int32),
        )
        options = tf.data.Options()
        # There is nothing to tune, and the tuner's thread holds up the end of an iterator: 35 s were seen.
        options.autotune.enabled = False
        options.threading.private_threadpool_size = 1
        return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(2).with_options(options)


def evaluation_batches(dataset: Dataset, data: Data) -> Iterator[tuple[Images, Labels]]:
    """The evaluation split once, in file order, centrally cropped; the last batch may be partial."""
    split = dataset.split(data.evaluate)
    side = _side(dataset, data)
    margin = (dataset.size - side) // 2
    for first in range(0, split.count, data.batch):
        images, labels = split.gather(np.arange(first, min(first + data.batch, split.count)))
        yield images[:, margin : margin + side, margin : margin + side], labels


def image_shape(dataset: Dataset, data: Data) -> tuple[int, int, int]:
    """[height, width, channels] of a cropped image."""
    side = _side(dataset, data)
    return side, side, 3


def _side(dataset: Dataset, data: Data) -> int:
    if data.crop is not None and data.crop > dataset.size:
        raise InputError(
            f"data.crop: {data.crop} px is more than the dataset's {dataset.size} px; "
            f"preprocess with a larger --size, or --set data.crop={dataset.size}"
        )
    return data.crop or dataset.size


def _augment(images: Images, side: int, flip: bool, random: np.random.Generator) -> Images:
    count, size = images.shape[:2]
    corners = random.integers(size - side + 1, size=(count, 2))
    flips = random.random(count) < 0.5 if flip else np.zeros(count, dtype=bool)
    augmented = np.empty((count, side, side, 3), np.uint8)
    for index, ((top, left), mirrored) in enumerate(zip(corners, flips, strict=True)):
        crop = images[index, top : top + side, left : left + side]
        augmented[index] = crop[:, ::-1] if mirrored else crop
    return augmented
