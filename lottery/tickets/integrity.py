"""What must hold of a training's state at every checkpoint and at its end, as pure checks of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lottery.tickets import masks
from lottery.tickets.masks import Mask

_LOST = 0.01  # share of the kept weights that may be exactly 0 before the density counts as another


def violation(mask: Mask, state: Mapping[str, Any], slots: Mapping[str, Sequence[str]], density: float) -> str | None:
    """Why this cannot be the state of a ticket of this density; None if it can.

    The mask has to fit the model's prunable kernels, all of them, and to keep as many weights as the density says.
    Masked weights and their optimizer slots have to be exactly 0. So no more weights are alive than the density says;
    `density_note` says whether fewer are.

    Args:
        state: arrays by path.
        slots: for each prunable kernel's path the paths of its optimizer slots.
    """
    shapes = {kernel: tuple(np.shape(state[kernel])) for kernel in slots}
    other = [kernel for kernel in {**shapes, **mask} if kernel not in mask or mask[kernel].shape != shapes.get(kernel)]
    if other:
        return f"the mask does not fit the model's kernels: {', '.join(other)}"
    kept, wanted = masks.kept(mask), masks.kept_weights(density, masks.prunable_weights(mask))
    if kept != wanted:
        return f"the mask keeps {kept:,} weights, density {density:g} is {wanted:,}"
    for kernel, kept_here in mask.items():
        for path in (kernel, *slots[kernel]):
            if ((np.asarray(state[path]) != 0) > kept_here).any():  # 20 times as fast as to gather the masked ones
                return f"masked weights of {path} are not 0"
    return None


def not_finite(state: Mapping[str, Any], weights: Iterable[str]) -> str | None:
    """The first of these weights with an element that is not finite: such a training has diverged.

    Its loss need not show it: a ReLU makes 0 of NaN.
    """
    return next((weight for weight in weights if not np.isfinite(np.asarray(state[weight])).all()), None)


def density_note(mask: Mask, state: Mapping[str, Any]) -> str:
    """A note on the realised density for the result; "" if it is the mask's.

    A kept weight may become exactly 0 by itself: it starts at 0 and sees no gradient, or it decays below what float32
    can hold. A few do not matter. If more than 1% do, the ticket is sparser than its density says.
    """
    kept = masks.kept(mask)
    alive = sum(int(np.count_nonzero(np.asarray(state[kernel])[kept_here])) for kernel, kept_here in mask.items())
    if kept - alive <= _LOST * kept:
        return ""
    realised = alive / masks.prunable_weights(mask)
    return f"{kept - alive:,} of {kept:,} kept weights have become 0: the realised density is {realised:.4g}"
