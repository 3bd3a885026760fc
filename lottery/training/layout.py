"""Many variables in one flat vector: the place of each, packing and unpacking."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

_ALIGNMENT = 64  # bytes; TensorFlow shares memory with a slice that begins and ends at multiples of it


class Place(NamedTuple):
    """Where a variable lies in a vector."""

    begin: int
    shape: tuple[int, ...]

    @property
    def end(self) -> int:
        """The first element after it."""
        return self.begin + math.prod(self.shape)


class Layout:
    """Variables of one type in a vector, each from an aligned element on, with zeros between them.

    Args:
        shapes: the variables' shapes by path.
        dtype: their type.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]], dtype: str) -> None:
        self.dtype = np.dtype(dtype)
        self.places: dict[str, Place] = {}
        step, self.size = _ALIGNMENT // self.dtype.itemsize, 0
        for path, shape in shapes.items():
            place = Place(-(-self.size // step) * step, tuple(shape))
            self.places[path], self.size = place, place.end

    def renamed(self, template: str) -> Layout:
        """The same layout for other variables: `template` with each path in place of `{}`."""
        return Layout({template.format(path): place.shape for path, place in self.places.items()}, self.dtype.name)

    def pack(self, arrays: Mapping[str, Any]) -> NDArray[Any]:
        """The vector [size] of arrays by path."""
        vector = np.zeros(self.size, self.dtype)
        for path, place in self.places.items():
            vector[place.begin : place.end] = np.asarray(arrays[path]).reshape(-1)
        return vector

    def array(self, vector: NDArray[Any], path: str) -> NDArray[Any]:
        """A variable's view into the vector [size]."""
        place = self.places[path]
        return vector[place.begin : place.end].reshape(place.shape)

    def split(self, vector: Any) -> dict[str, Any]:
        """In a graph: the variables by path, from the vector's tensor."""
        return {path: tf.reshape(vector[place.begin : place.end], place.shape) for path, place in self.places.items()}

    def join(self, tensors: Mapping[str, Any]) -> Any:
        """In a graph: the vector's tensor, from the variables by path."""
        parts, end = [], 0
        for path, place in self.places.items():
            if place.begin > end:
                parts.append(tf.zeros([place.begin - end], self.dtype))
            parts.append(tf.reshape(tensors[path], [-1]))
            end = place.end
        return tf.concat(parts, 0)
