"""What a mask leaves of each kernel: its density, and inputs and outputs that have no weight left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lottery.tickets.masks import Mask


@dataclass(frozen=True)
class Layer:
    """A kernel and its mask.

    Keras' kernels end in [..., inputs, outputs]. Those of depthwise layers end in [..., channels, multiplier], so their
    channels are counted as inputs; a transposed convolution's end in [..., outputs, inputs], so the two are swapped.
    """

    size: int  # weights
    kept: int
    inputs: int
    empty_inputs: int  # from which no weight of this kernel is kept
    outputs: int
    empty_outputs: int  # to which no weight of this kernel is kept

    @property
    def density(self) -> float:
        """The share of weights that is kept."""
        return self.kept / self.size


def layers(mask: Mask) -> dict[str, Layer]:
    """What the mask leaves of each kernel, by path."""
    return {path: _layer(kept) for path, kept in mask.items()}


def _layer(kept: NDArray[np.bool_]) -> Layer:
    inputs, outputs = kept.shape[-2:]
    lines = kept.reshape(-1, inputs, outputs)
    return Layer(
        size=kept.size,
        kept=int(np.count_nonzero(kept)),
        inputs=inputs,
        empty_inputs=_empty(lines.any(axis=(0, 2))),
        outputs=outputs,
        empty_outputs=_empty(lines.any(axis=(0, 1))),
    )


def _empty(used: Any) -> int:
    return int(used.size - np.count_nonzero(used))
