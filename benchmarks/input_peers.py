"""Copies of a dataset in the formats of the peers."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.dataset.opening import Split

ROWS_PER_FILE = 512


def _files(split: Split) -> Iterator[tuple[int, Any, Any]]:
    for number, first in enumerate(range(0, split.count, ROWS_PER_FILE)):
        images, labels = split.gather(np.arange(first, min(first + ROWS_PER_FILE, split.count)))
        yield number, images, labels


def write_tfrecords(split: Split, folder: Path) -> None:
    """TFRecord files: an Example a row, with the pixels as one byte string."""
    # TensorFlow takes seconds to import and its threads would be forked along: only this function needs it.
    import tensorflow as tf

    for number, images, labels in _files(split):
        with tf.io.TFRecordWriter(str(folder / f"{number:05}.tfrecord")) as writer:
            for image, label in zip(images, labels, strict=True):
                feature = {
                    "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()])),
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[int(label)])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def write_tars(split: Split, folder: Path) -> None:
    """Tar files as webdataset reads them: the pixels and the label of a row are two members."""
    for number, images, labels in _files(split):
        with tarfile.open(folder / f"{number:05}.tar", "w") as archive:
            for row, (image, label) in enumerate(zip(images, labels, strict=True)):
                for ending, data in (("image", image.tobytes()), ("label", struct.pack("<i", label))):
                    member = tarfile.TarInfo(f"{number:05}-{row:05}.{ending}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
