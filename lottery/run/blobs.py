"""Arrays with metadata, and masks, as safetensors blobs, which cannot run code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from lottery.run import checksum
from lottery.tickets.masks import Mask


def pack(arrays: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    """A blob of arrays by name (any shape and memory layout) and metadata, with a checksum of both.

    The same arrays and metadata always give the same bytes.
    """
    # ascontiguousarray makes a scalar 1-dimensional, so its shape is put back.
    plain = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in arrays.items()}
    blob = safetensors.numpy.save(plain)
    header = {"__metadata__": {**metadata, checksum.KEY: _checksum(plain, metadata)}, **_header(blob)}
    # The library writes metadata in random order. Offsets count from the end of the header, which is padded to 8 bytes.
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + memoryview(blob)[_data(blob) :]


def unpack(blob: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays and the metadata of a blob. A blob without a checksum, as earlier versions wrote it, is accepted.

    Raises ValueError if it is truncated, not safetensors, or not what was packed.
    """
    try:
        arrays = safetensors.numpy.load(blob)
    except (SafetensorError, KeyError) as error:  # the latter for a data type that NumPy does not have
        raise ValueError(f"not a whole safetensors blob: {error}") from None
    metadata = _header(blob).get("__metadata__", {})
    found = metadata.pop(checksum.KEY, None)
    if found not in (None, _checksum(arrays, metadata)):
        raise ValueError("its checksum does not match")
    return arrays, metadata


def pack_mask(mask: Mask) -> bytes:
    """The mask as safetensors, eight weights a byte (the first in the highest bit), shapes in the metadata."""
    shapes = json.dumps({name: kernel.shape for name, kernel in mask.items()})
    return pack({name: np.packbits(kernel) for name, kernel in mask.items()}, {"shapes": shapes})


def unpack_mask(blob: bytes) -> Mask:
    """The mask in a blob of `pack_mask`. Raises ValueError if the blob holds no mask."""
    packed, metadata = unpack(blob)
    try:
        return {
            name: np.unpackbits(packed[name], count=int(np.prod(shape))).astype(bool).reshape(shape)
            for name, shape in json.loads(metadata["shapes"]).items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a safetensors blob that is not a packed mask: {error}") from None


def _data(blob: bytes) -> int:
    """Where the arrays begin: after the header and its length."""
    return 8 + int.from_bytes(blob[:8], "little")


def _header(blob: bytes) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(blob[8 : _data(blob)])
    return header


def _checksum(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> str:
    described = [[name, array.dtype.str, array.shape] for name, array in sorted(arrays.items())]
    head = json.dumps([described, dict(metadata)], sort_keys=True).encode()
    return checksum.of_parts([head, *(array.reshape(-1).view(np.uint8) for _, array in sorted(arrays.items()))])
