"""What must hold of a training's state at every checkpoint and at its end, as pure checks of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lottery.tickets import masks
from lottery.tickets.masks import Mask

_LOST = 0.01  # share of the kept weights that may be exactly 0 before the density counts as another


def fault(mask: Mask, state: Mapping[str, Any], slots: Mapping[str, Sequence[str]], density: float) -> str | None:
    """Why a state is not one of a ticket of this density; None where it is.

    The mask has to be of the model's prunable kernels, all of them, and to keep as many weights as the density says;
    what it masks, and the optimizer's slots of that, has to be exactly 0. So no more weights live than the density
    says. Whether all that are kept do is for `remark` to say.

    Args:
        state: arrays by path.
        slots: for each prunable kernel's path those of its slots.
    """
    shapes = {kernel: tuple(np.shape(state[kernel])) for kernel in slots}
    other = [kernel for kernel in {**shapes, **mask} if kernel not in mask or mask[kernel].shape != shapes.get(kernel)]
    if other:
        return f"the mask is not of the model's kernels: {', '.join(other)}"
    kept, wanted = masks.kept(mask), masks.kept_weights(density, masks.prunable_weights(mask))
    if kept != wanted:
        return f"the mask keeps {kept:,} weights, density {density:g} is {wanted:,}"
    for kernel, kept_here in mask.items():
        for path in (kernel, *slots[kernel]):
            if np.asarray(state[path])[~kept_here].any():
                return f"masked weights of {path} are not 0"
    return None


def not_finite(state: Mapping[str, Any], weights: Iterable[str]) -> str | None:
    """The first of these weights with an element that is not finite: such a training has diverged.

    Its loss need not show it: a ReLU makes 0 of NaN.
    """
    return next((weight for weight in weights if not np.isfinite(np.asarray(state[weight])).all()), None)


def remark(mask: Mask, state: Mapping[str, Any]) -> str:
    """What a reader of the result has to know of the realised density, or "" where it is the mask's.

    A kept weight may become exactly 0 by itself: one that starts there and sees no gradient, or that decays below what
    float32 can hold. A few change nothing; where more than 1% of them do, the ticket is sparser than it is said to be.
    """
    kept = masks.kept(mask)
    alive = sum(int(np.count_nonzero(np.asarray(state[kernel])[kept_here])) for kernel, kept_here in mask.items())
    if kept - alive <= _LOST * kept:
        return ""
    realised = alive / masks.prunable_weights(mask)
    return f"{kept - alive:,} of {kept:,} kept weights have become 0: the realised density is {realised:.4g}"
