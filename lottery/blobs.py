"""Arrays and a few words of metadata as one safetensors blob: nothing in it can run code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from lottery import checksum


def pack(arrays: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    """A blob of arrays (of any shape and memory layout) by name, and metadata, with a checksum of both."""
    # ascontiguousarray makes a scalar 1-dimensional, so its shape is put back.
    plain = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in arrays.items()}
    return safetensors.numpy.save(plain, {**metadata, checksum.KEY: _checksum(plain, metadata)})


def unpack(blob: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays and the metadata of a blob. One without a checksum, as earlier versions wrote them, is taken as it is.

    Raises ValueError where it is truncated, no safetensors, or not what was packed.
    """
    try:
        arrays = safetensors.numpy.load(blob)
    except (SafetensorError, KeyError) as error:  # the latter for a kind of number that NumPy does not have
        raise ValueError(f"not a whole safetensors blob: {error}") from None
    header = int.from_bytes(blob[:8], "little")  # the length of the JSON that follows
    metadata = json.loads(blob[8 : 8 + header]).get("__metadata__", {})
    found = metadata.pop(checksum.KEY, None)
    if found not in (None, _checksum(arrays, metadata)):
        raise ValueError("its checksum is another")
    return arrays, metadata


def _checksum(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> str:
    described = [[name, array.dtype.str, array.shape] for name, array in sorted(arrays.items())]
    head = json.dumps([described, dict(metadata)], sort_keys=True).encode()
    return checksum.of_parts([head, *(array.reshape(-1).view(np.uint8) for _, array in sorted(arrays.items()))])
