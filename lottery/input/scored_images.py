"""The images that masks are scored on: the first of the training split's order, without augmentation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lottery.experiment.sections import Data, Input
from lottery.input import augment, shuffle_window
from lottery.input.batch_assembler import BatchAssembler, Images, Labels, open_split
from lottery.input.order import sample_order
from preprocessing.dataset.opening import Dataset

_MOST = 64  # images in a batch, whatever the experiment's: also second derivatives have to fit into memory


def scored_images(
    dataset: Dataset, data: Data, seed: int, settings: Input, count: int, most: int = _MOST
) -> Iterator[tuple[Images, Labels]]:
    """The first `count` images that a training of this seed sees, centrally cropped as in evaluation.

    They come in even batches of at most `most`: uint8 [batch, side, side, 3] and int32 [batch].

    Raises InputError if the crop is larger than the images.
    """
    augment.check(data, dataset.size)
    split = open_split(dataset, data.train, settings, mapped=True)
    shuffle_window.check(dataset, split, settings)
    order = sample_order(dataset.content_hash, seed, 0, split.row_group_starts, settings.shuffle_window)
    pieces = np.array_split(order[:count], -(-count // most))
    assembler, shape = BatchAssembler(split, settings, dataset.codec == "jpeg"), augment.image_shape(data, dataset.size)
    for rows, (blobs, labels) in zip(pieces, split.stream(pieces), strict=True):
        images = np.empty((len(rows), *shape), np.uint8)
        assembler.assemble(blobs, rows, augment.centre_crops(data, dataset.size, len(rows)), images)
        yield images, labels
