"""The canonical order of samples: a pure function of (dataset, seed, epoch)."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def random_stream(*key: str | int) -> np.random.Generator:
    """A generator of its own for each key; Philox is counter-based, so that no two keys share a sequence."""
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], dtype="<u8").copy()))


def epoch_order(dataset_hash: str, seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """A permutation of the `count` images of a split, int64 [count]: the order in which `epoch` visits them."""
    return random_stream("order", dataset_hash, seed, epoch).permutation(count)


def derived_seed(*key: str | int) -> int:
    """A seed in [0, 2**31) for libraries that take an integer."""
    return int(random_stream(*key).integers(2**31))
