"""What a network's variables take: as they are, with the sparse kernels as sparse matrices, and compressed."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from scipy.sparse import csr_array

from lottery.run import blobs

_LEVEL = 9  # of zlib: the smallest


@dataclass(frozen=True)
class Sizes:
    """Bytes. `sparse` has each prunable kernel in the smaller of its two forms: dense, or as `csr_bytes` counts it."""

    dense: int
    sparse: int
    compressed: int  # by zlib, which gzip and zip use, at its highest level


def sizes(variables: Mapping[str, NDArray[Any]], prunable: Iterable[str]) -> Sizes:
    """The sizes of a network's variables by path, of which `prunable` may be stored as sparse matrices."""
    dense = {path: array.nbytes for path, array in variables.items()}
    sparse = {**dense, **{path: min(dense[path], csr_bytes(variables[path])) for path in prunable}}
    compressed = len(zlib.compress(blobs.pack(variables, {}), _LEVEL))
    return Sizes(sum(dense.values()), sum(sparse.values()), compressed)


def csr_bytes(kernel: NDArray[Any]) -> int:
    """Bytes of a kernel [..., out] as SciPy's compressed sparse rows.

    A row is an output: for each weight that is not 0 its value and its column, 4 bytes each, and 4 bytes for each row.
    """
    matrix = csr_array(kernel.reshape(-1, kernel.shape[-1]).T)
    return int(matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes)
