"""Random streams by name: every choice draws from one of its own, so that none depends on another."""

from __future__ import annotations

import hashlib

import numpy as np


def random_stream(*key: str | int) -> np.random.Generator:
    """A generator of its own for each key; Philox is counter-based, so that no two keys share a sequence."""
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], dtype="<u8").copy()))


def derived_seed(*key: str | int) -> int:
    """A seed in [0, 2**31) for libraries that take an integer."""
    return int(random_stream(*key).integers(2**31))
