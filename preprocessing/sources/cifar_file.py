"""CIFAR's binary batches: a label or two and 3 x 32 x 32 bytes for each image; in an archive or unpacked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from preprocessing.common.errors import InputError
from preprocessing.common.storage import Store
from preprocessing.sources.gzip_input import Unpacked, open_unpacked
from preprocessing.sources.pixels import png
from preprocessing.sources.tar_index import TarError, members

SIDE, CHANNELS = 32, 3
_PIXELS = CHANNELS * SIDE * SIDE
_MAX_MEMBER = 1 << 28  # the largest has 154 MB
_BLOCK = 4096  # records at once


class Part(NamedTuple):
    """A file in an archive, or one that is unpacked: its name without folders, its size and its bytes."""

    name: str
    size: int
    stream: Unpacked


def parts(store: Store, path: str) -> Iterator[Part]:
    """The files of an archive (.tar.gz or .tar), in order; or the file itself. Each is read before the next.

    Raises `InputError` for an archive that is damaged.
    """
    with open_unpacked(store, path) as stream:
        if not path.endswith((".tar", ".tar.gz", ".tgz")):
            yield Part(path.rsplit("/", 1)[-1], store.size(path) or 0, stream)
            return
        with _explained(store, path):
            # A length that no archive has: where a gzipped one ends shows when it does.
            for member in members(lambda offset, length: _read_at(stream, offset, length), 0, 1 << 62):
                if member.kind:
                    continue
                if member.size > _MAX_MEMBER:
                    raise TarError(f"{member.name} has {member.size:,} bytes")
                stream.seek(member.offset)
                yield Part(member.name.removeprefix("./").rsplit("/", 1)[-1], member.size, stream)


def read_records(store: Store, path: str, part: Part, label_bytes: int) -> Iterator[NDArray[np.uint8]]:
    """The records of a batch, some at a time, uint8 [n, label_bytes + 3072]; `InputError` if it is cut short."""
    record, left = label_bytes + _PIXELS, part.size
    where = store.describe(path) + (f": {part.name}" if not path.endswith(part.name) else "")
    if left % record or not left:
        raise InputError(f"{where} has {left:,} bytes, not a whole number of records of {record:,}: download it again")
    while left:
        data = part.stream.read(min(left, _BLOCK * record))
        if len(data) % record or not data:
            raise InputError(f"{where} is cut short: download it again")
        left -= len(data)
        yield np.frombuffer(data, np.uint8).reshape(-1, record)


def extract_images(
    store: Store, batches: Sequence[str], label_bytes: int, path: str, numbers: Sequence[int]
) -> Iterator[bytes]:
    """The images of these numbers, which ascend, as PNG. They are counted through all of a file's `batches`."""
    wanted, start = iter(numbers), 0
    number = next(wanted, None)
    for part in parts(store, path):
        if part.name not in batches:
            continue
        for block in read_records(store, path, part, label_bytes):
            while number is not None and number < start + len(block):
                planes = block[number - start, label_bytes:].reshape(CHANNELS, SIDE, SIDE)
                yield png(np.ascontiguousarray(planes.transpose(1, 2, 0)))
                number = next(wanted, None)
            start += len(block)
    if number is not None:
        raise InputError(f"{store.describe(path)} has changed: run the same command again")


def _read_at(stream: Unpacked, offset: int, length: int) -> bytes:
    stream.seek(offset)
    return stream.read(length)


@contextlib.contextmanager
def _explained(store: Store, path: str) -> Iterator[None]:
    try:
        yield
    except TarError as error:
        raise InputError(f"{store.describe(path)} is damaged: {error}; download it again") from error
