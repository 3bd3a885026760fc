"""The idx format of MNIST and its successors: a header, then bytes; gzipped or not."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from preprocessing.common.errors import InputError
from preprocessing.common.storage import Store
from preprocessing.sources.gzip_input import Unpacked, open_unpacked
from preprocessing.sources.pixels import png

# Two zeros, 8 for unsigned bytes, the number of dimensions; then each dimension in four bytes, big-endian.
_MAGIC = b"\0\0\x08"
_MAX_SIDE = 4096
_MAX_IMAGES = 1 << 27


def read_labels(store: Store, path: str) -> NDArray[np.uint8]:
    """All labels of a file [images]; `InputError` if it is damaged."""
    with _opened(store, path, 1) as (stream, (count,)):
        data = stream.read(count)
        _check_end(store, path, stream, missing=count - len(data))
    return np.frombuffer(data, np.uint8)


def measure(store: Store, path: str) -> tuple[int, int, int]:
    """The number of a file's images, their height and width. Reads all of it; `InputError` if it is damaged."""
    with _opened(store, path, 3) as (stream, shape):
        _check_end(store, path, stream, missing=stream.skip(math.prod(shape)))
    count, height, width = shape
    return count, height, width


def extract_images(store: Store, transposed: bool, path: str, numbers: Sequence[int]) -> Iterator[bytes]:
    """The images of these numbers, which ascend, as PNG; `transposed` swaps rows and columns."""
    with _opened(store, path, 3) as (stream, (count, height, width)):
        place = 0
        for number in numbers:
            while place <= number:
                data = stream.read(height * width)
                place += 1
            if number >= count or len(data) < height * width:
                raise InputError(f"{store.describe(path)} has changed: run the same command again")
            pixels = np.frombuffer(data, np.uint8).reshape(height, width)
            yield png(np.ascontiguousarray(pixels.T) if transposed else pixels)


@contextlib.contextmanager
def _opened(store: Store, path: str, dimensions: int) -> Iterator[tuple[Unpacked, list[int]]]:
    """The bytes after the header, and the file's shape."""
    where, what = store.describe(path), "labels" if dimensions == 1 else "images"
    with open_unpacked(store, path) as stream:
        header = stream.read(4 + 4 * dimensions)
        if header[:4] != _MAGIC + bytes([dimensions]):
            raise InputError(f"{where} is not an idx file of {what}: it begins with {header[:4]!r}; download it again")
        if len(header) < 4 + 4 * dimensions:
            raise InputError(f"{where} is cut short: it ends within the header; download it again")
        shape = [int(number) for number in np.frombuffer(header[4:], ">u4")]
        if not 0 < shape[0] <= _MAX_IMAGES or not all(0 < side <= _MAX_SIDE for side in shape[1:]):
            said = " x ".join(f"{number:,}" for number in shape)
            raise InputError(f"{where} says that it has {said} {what}: download it again")
        yield stream, shape


def _check_end(store: Store, path: str, stream: Unpacked, missing: int) -> None:
    if missing:
        raise InputError(f"{store.describe(path)} is cut short: {missing:,} bytes are missing; download it again")
    if stream.read(1):
        raise InputError(f"{store.describe(path)} has more bytes than its header says: download it again")
