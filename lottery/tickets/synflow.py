"""Iterative synaptic flow pruning (Tanaka et al., "Pruning neural networks without any data", 2020)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lottery.tickets.masks import Kernels, Mask, Shapes, global_mask, kept_weights, prunable_weights

_ROUNDS = 100  # as in the paper

# The synaptic flow through each weight of the network under a mask: not negative, float64, by kernel.
Flow = Callable[[Mask], Kernels]


def synflow_mask(flow: Flow, shapes: Shapes, density: float, rounds: int = _ROUNDS) -> Mask:
    """The mask of this density after `rounds` rounds, of which round k keeps the fraction density**(k / rounds).

    Each round ranks the weights that are left by the flow through them. A layer that is down to a few weights thus has
    the highest flows, and is not emptied, provided that each round prunes few (the paper's theorem 3). Each density is
    pruned on its own: a sparser mask need not be a subset of a denser one.

    Raises UnrankedError if a flow is not finite.
    """
    mask: Mask = {name: np.ones(shape, dtype=bool) for name, shape in shapes.items()}
    prunable = prunable_weights(mask)
    for number in range(1, rounds + 1):
        count = kept_weights(density ** (number / rounds), prunable)
        # Below every flow: what is pruned stays pruned, also if a flow that is left has become 0.
        scores = {name: np.where(mask[name], score, -1.0) for name, score in flow(mask).items()}
        mask = global_mask(scores, count)
    return mask
