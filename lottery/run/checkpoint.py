"""A training's exact state as one blob, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from lottery.run import blobs


@dataclass(frozen=True)
class Checkpoint:
    """A training after `step` steps: its variables by path, and its running sums."""

    step: int
    variables: Mapping[str, NDArray[Any]]
    seconds: float = 0.0  # of training so far
    loss_sum: float = 0.0  # over the steps since the last evaluation
    loss_steps: int = 0


def pack(checkpoint: Checkpoint) -> bytes:
    """The checkpoint as a safetensors blob, the numbers in its metadata."""
    numbers = {name: repr(getattr(checkpoint, name)) for name in ("step", "seconds", "loss_sum", "loss_steps")}
    return blobs.pack(checkpoint.variables, numbers)


def unpack(blob: bytes) -> Checkpoint:
    """The checkpoint in a blob of `pack`. Raises ValueError if the blob holds no checkpoint."""
    variables, metadata = blobs.unpack(blob)
    try:
        return Checkpoint(
            step=int(metadata["step"]),
            variables=variables,
            seconds=float(metadata["seconds"]),
            loss_sum=float(metadata["loss_sum"]),
            loss_steps=int(metadata["loss_steps"]),
        )
    except KeyError as error:
        raise ValueError(f"a safetensors blob without {error} is not a checkpoint") from None
