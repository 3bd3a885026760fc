"""Arrays with metadata, and masks, as safetensors blobs: nothing in them can run code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from lottery.masks import Mask


def pack(arrays: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    """A blob of arrays (of any shape and memory layout) by name, and metadata."""
    # ascontiguousarray makes a scalar 1-dimensional, so its shape is put back.
    plain = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in arrays.items()}
    return safetensors.numpy.save(plain, dict(metadata))


def unpack(blob: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays and the metadata of a blob. Raises ValueError where it is truncated or no safetensors."""
    try:
        arrays = safetensors.numpy.load(blob)
    except SafetensorError as error:
        raise ValueError(f"not a whole safetensors blob: {error}") from None
    header = int.from_bytes(blob[:8], "little")  # the length of the JSON that follows
    return arrays, json.loads(blob[8 : 8 + header]).get("__metadata__", {})


def pack_mask(mask: Mask) -> bytes:
    """The mask as safetensors, eight weights a byte (first weight in the highest bit), shapes in the metadata."""
    shapes = json.dumps({name: kernel.shape for name, kernel in mask.items()})
    return pack({name: np.packbits(kernel) for name, kernel in mask.items()}, {"shapes": shapes})


def unpack_mask(blob: bytes) -> Mask:
    """The mask in a blob of `pack_mask`. Raises ValueError where the blob is not one."""
    packed, metadata = unpack(blob)
    try:
        return {
            name: np.unpackbits(packed[name], count=int(np.prod(shape))).astype(bool).reshape(shape)
            for name, shape in json.loads(metadata["shapes"]).items()
        }
    except KeyError as error:
        raise ValueError(f"a safetensors blob without {error} is not a packed mask") from None
