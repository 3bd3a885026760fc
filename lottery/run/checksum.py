"""Checksums inside the files of a run directory, so that a flipped bit is not taken for a result."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

KEY = "crc32"

T = TypeVar("T")


def of_parts(parts: Iterable[Any]) -> str:
    """The CRC-32, as 8 hex digits, of several buffers one after the other."""
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return f"{value:08x}"


def seal(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with its checksum as an additional key."""
    return {**tree, KEY: _of_tree(tree)}


def unseal(blob: bytes | str) -> dict[str, Any]:
    """The JSON object in a text, without its checksum. One that has none, as earlier versions wrote it, is accepted.

    Raises ValueError if the text is not a JSON object, or its checksum does not match.
    """
    tree = json.loads(blob)
    if not isinstance(tree, dict):
        raise ValueError("not a JSON object")
    found = tree.pop(KEY, None)
    if found not in (None, _of_tree(tree)):
        raise ValueError("its checksum does not match")
    return tree


def encode(record: msgspec.Struct) -> bytes:
    """A struct as indented JSON with its checksum."""
    return json.dumps(seal(json.loads(msgspec.json.encode(record))), indent=2, ensure_ascii=False).encode()


def decode(blob: bytes, kind: type[T]) -> T:
    """The struct in a text of `encode`. Raises ValueError if there is none."""
    try:
        return msgspec.convert(unseal(blob), kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def _of_tree(tree: Mapping[str, Any]) -> str:
    return of_parts([json.dumps(tree, sort_keys=True).encode()])
