"""TFRecord files as TensorFlow's models and TensorFlow Datasets write ImageNet: `train-00000-of-01024`."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.names import one_line
from preprocessing.common.storage import Store
from preprocessing.common.storage_errors import reason, remedy
from preprocessing.sources.archive import Archive, ReadAhead, compression, explain_compression
from preprocessing.sources.base import NO_OPTIONS, SourceOptions
from preprocessing.sources.class_numbers import Label, parse_label
from preprocessing.sources.shards import Index, LabelledImage, ShardIndex, ShardSource
from preprocessing.sources.skipped import Skipped
from preprocessing.sources.text_files import decode_text
from preprocessing.sources.tfrecord_file import Feature, Record, TFRecordError, Value, features, records

# The features of TensorFlow's models, then those of TensorFlow Datasets.
IMAGE = ("image/encoded", "image")
CLASS = "image/class/synset"
LABEL = ("image/class/label", "label")
WORDS = "image/class/text"
NAME = ("image/filename", "file_name", "id")
# The names of the classes, in the order of their labels, as TensorFlow Datasets keeps them.
LABEL_NAMES = "label.labels.txt"
_SHARD = re.compile(r"(?!.*\.(parquet|arrow|tar)).*(-\d{2,}-of-\d{2,}|\.tfrecords?)$", re.IGNORECASE)


class TFRecordSource(ShardSource):
    """Records of `tf.train.Example`. A class is a record's synset, or else its label, a number."""

    layout = "tfrecord"
    looks_like = "TFRecord files such as train-00000-of-01024 or *.tfrecord"
    takes = ("--first-label",)

    def __init__(self, store: Store, options: SourceOptions = NO_OPTIONS) -> None:
        super().__init__(store, options)
        self._label_names = _read_names(store)

    @classmethod
    def is_shard(cls, name: str) -> bool:
        """Whether it is called as such files are."""
        return _SHARD.match(name) is not None

    def index(self) -> Index:
        """A function over this source's store."""
        return functools.partial(index_file, self.store)

    def class_names(self) -> Sequence[str]:
        """The names in `label.labels.txt`."""
        return self._label_names

    def label_files(self) -> tuple[str, ...]:
        """`label.labels.txt`."""
        return (LABEL_NAMES,)


def _read_names(store: Store) -> list[str]:
    try:
        return [line.strip() for line in decode_text(store.read(LABEL_NAMES)).splitlines() if line.strip()]
    except FileNotFoundError:
        return []


def index_file(store: Store, path: str) -> ShardIndex | str:
    """The images of a file; or, as text, why it cannot be used. Reads all of it, for its checksums.

    Raises `StorageError` if storage fails.
    """
    where, number = store.describe(path), 0
    try:
        with store.open_input(path) as source:
            size = source.size()
            packed = compression(source.read_at(min(8, size), 0))
            if packed:
                return explain_compression(store, Archive(path, path, 0, size), *packed)
            read_at = ReadAhead(lambda offset, length: source.read_at(length, offset), size)
            images = []
            for number, record in enumerate(records(read_at, size), 1):
                images.append(_image(record, f"{path.rsplit('/', 1)[-1]}-{number - 1:06}"))
            return ShardIndex(images, Skipped())
    except StorageError:
        raise
    except FileNotFoundError:
        return f"{where} was deleted a moment ago: put it back, and run the same command again"
    except (OSError, pa.ArrowException) as error:
        why = f"{reason(error)}; {remedy(error, local=store.is_local)}"
        raise StorageError(f"cannot read {where}: {why}") from error
    except TFRecordError as error:
        return f"{where} is damaged: {error}; download it again"
    except InputError as error:
        return f"{where}: record {number:,}: {error}"


def _image(record: Record, otherwise: str) -> LabelledImage:
    """The image of a record, called as the record says, or `otherwise`. Raises `InputError` if it lacks something."""
    try:
        found = features(record.data)
    except TFRecordError as error:
        raise TFRecordError(f"the record at byte {record.offset:,} is {error}") from error
    image = next((_one(found[key], Value, key) for key in IMAGE if key in found), None)
    if image is None:
        there = ", ".join(one_line(key) for key in sorted(found)[:5]) or "nothing"
        raise InputError(f"it has no {' or '.join(IMAGE)} but {there}: this is not a dataset of labelled images")
    label = _label(record.data, found)
    name = next((text for key in NAME if (text := _text(record.data, found.get(key, [])))), otherwise)
    offset, length = record.offset + image.start, image.end - image.start
    return LabelledImage(
        name.rsplit("/", 1)[-1] or otherwise, label, offset, length, _text(record.data, found.get(WORDS, []))
    )


def _label(data: bytes, found: dict[str, Feature]) -> Label:
    text = _text(data, found.get(CLASS, []))
    if text:
        return parse_label(text)
    for key in LABEL:
        if key in found:
            number: int = _one(found[key], int, key)
            return number
    raise InputError(f"it has no {' or '.join((CLASS, *LABEL))}: leave files without labels out of --source")


def _one(feature: Feature, kind: Any, key: str) -> Any:
    if len(feature) != 1 or not isinstance(feature[0], kind):
        what = "image" if kind is Value else "whole number"
        raise InputError(f"its {key} is not one {what}: this is not a dataset of labelled images")
    return feature[0]


def _text(data: bytes, feature: Feature | Sequence[int]) -> str:
    value = feature[0] if feature else None
    return data[value.start : value.end].decode("utf-8", "replace") if isinstance(value, Value) else ""
