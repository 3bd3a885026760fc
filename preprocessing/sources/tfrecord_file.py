"""TFRecord files, read without TensorFlow: framing, checksums, and the few fields of `tf.train.Example`."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import google_crc32c

from preprocessing.sources.tar_index import ReadAt

# length (uint64), its masked CRC-32C; then the data and their masked CRC-32C.
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
# No image is larger than MAX_BYTES, a quarter of this.
_MAX_RECORD = 1 << 28
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class TFRecordError(Exception):
    """What is wrong with a file, and where."""


class Record(NamedTuple):
    """A record: its data, which begin at byte `offset` of the file."""

    offset: int
    data: bytes


class Value(NamedTuple):
    """Bytes of a feature: [start, end) of the record."""

    start: int
    end: int


# The values of a feature: all bytes, or all whole numbers. Floats are left out.
Feature = list[Value | int]


def records(read_at: ReadAt, size: int) -> Iterator[Record]:
    """Every record of a file of `size` bytes. Raises `TFRecordError` for a file that is cut short or damaged."""
    position = 0
    while position < size:
        header = read_at(position, _HEADER.size)
        if len(header) < _HEADER.size:
            raise TFRecordError(f"it is cut short at byte {size:,}, within the header of a record")
        length, check = _HEADER.unpack(header)
        if masked_crc(header[:8]) != check:
            raise TFRecordError(f"the checksum of a record's length at byte {position:,} is wrong")
        start = position + _HEADER.size
        position = start + length + _FOOTER.size
        if position > size:
            raise TFRecordError(f"it is cut short at byte {size:,}, within a record that ends at {position:,}")
        if length > _MAX_RECORD:
            raise TFRecordError(f"a record of {length:,} bytes at byte {start:,}, which is too long")
        block = read_at(start, length + _FOOTER.size)
        data = block[:length]
        if len(block) != length + _FOOTER.size or masked_crc(data) != _FOOTER.unpack(block[length:])[0]:
            raise TFRecordError(f"the checksum of the record at byte {start:,} is wrong")
        yield Record(start, data)


def masked_crc(data: bytes) -> int:
    """The CRC-32C of data, masked as TensorFlow does it, since data may hold checksums themselves."""
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def features(data: bytes) -> dict[str, Feature]:
    """The features of a serialised `tf.train.Example`. Raises `TFRecordError` if it is none."""
    found: dict[str, Feature] = {}
    # Example.features = 1; Features.feature = 1, a map of entries {key = 1, value = 2}
    for everything in _parts(data, Value(0, len(data)), 1):
        for entry in _parts(data, everything, 1):
            keys, values = _parts(data, entry, 1), _parts(data, entry, 2)
            if keys:
                key = data[keys[-1].start : keys[-1].end].decode("utf-8", "replace")
                found[key] = [value for part in values for value in _feature(data, part)]
    return found


def _feature(data: bytes, feature: Value) -> Feature:
    """Feature: bytes_list = 1, int64_list = 3, each with its values in field 1; numbers may be packed."""
    found: Feature = [value for values in _parts(data, feature, 1) for value in _parts(data, values, 1)]
    for numbers in _parts(data, feature, 3):
        for number, value in _fields(data, numbers):
            if number != 1:
                continue
            if isinstance(value, int):
                found.append(_signed(value))
                continue
            place = value.start
            while place < value.end:
                packed, place = _varint(data, place, value.end)
                found.append(_signed(packed))
    return found


def _parts(data: bytes, within: Value, wanted: int) -> list[Value]:
    """The fields of this number that are bytes."""
    return [value for number, value in _fields(data, within) if number == wanted and isinstance(value, Value)]


def _fields(data: bytes, within: Value) -> Iterator[tuple[int, Value | int]]:
    """The fields of a message in [start, end): their numbers and values, those of a fixed width left out."""
    place, end = within
    while place < end:
        tag, place = _varint(data, place, end)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, place = _varint(data, place, end)
            yield number, value
            continue
        if kind == _BYTES:
            length, place = _varint(data, place, end)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise TFRecordError("not a tf.train.Example")
        if length > end - place:
            raise TFRecordError("not a tf.train.Example")
        if kind == _BYTES:
            yield number, Value(place, place + length)
        place += length


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    """A number in base 128, lowest digit first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= end:
            break
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise TFRecordError("not a tf.train.Example")


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
