"""Checksums within what is kept in a run directory, so that a flipped bit is not taken for a result."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

KEY = "crc32"

T = TypeVar("T")


def of_parts(parts: Iterable[Any]) -> str:
    """8 hex digits of bytes, or what else is a buffer, one after the other."""
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return f"{value:08x}"


def seal(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with its checksum as one more key."""
    return {**tree, KEY: _of_tree(tree)}


def unseal(blob: bytes | str) -> dict[str, Any]:
    """The JSON object in a text, without its checksum. One without, as earlier versions wrote them, is taken as it is.

    Raises ValueError where it is none, or not what was sealed.
    """
    tree = json.loads(blob)
    if not isinstance(tree, dict):
        raise ValueError("no JSON object")
    found = tree.pop(KEY, None)
    if found not in (None, _of_tree(tree)):
        raise ValueError("its checksum does not match")
    return tree


def encode(record: msgspec.Struct) -> bytes:
    """A struct as indented JSON with its checksum."""
    return json.dumps(seal(json.loads(msgspec.json.encode(record))), indent=2, ensure_ascii=False).encode()


def decode(blob: bytes, kind: type[T]) -> T:
    """The struct in a text of `encode`. Raises ValueError where it is none."""
    try:
        return msgspec.convert(unseal(blob), kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def _of_tree(tree: Mapping[str, Any]) -> str:
    return of_parts([json.dumps(tree, sort_keys=True).encode()])
