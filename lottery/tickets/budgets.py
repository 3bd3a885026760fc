"""How many weights of each kernel a mask keeps, for methods that decide this before they look at the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from lottery.tickets.masks import Shapes, kept_weights

# (shapes of the prunable kernels, density) -> weights that each of them keeps.
Budget = Callable[[Shapes, float], dict[str, int]]


def layerwise(shapes: Shapes, density: float) -> dict[str, int]:
    """The same fraction of each kernel; in all, as many weights as the density says."""
    return _apportion({name: density * math.prod(shape) for name, shape in shapes.items()}, shapes, density)


def erdos_renyi_kernel(shapes: Shapes, density: float) -> dict[str, int]:
    """The Erdos-Renyi-kernel budget (Evci et al., "Rigging the lottery", 2020).

    A kernel's density is in proportion to the sum of its axes over their product, so that small kernels stay denser.
    A kernel whose share exceeds its size keeps all its weights, and the others divide up the rest.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    left, dense = density * sum(sizes.values()), set[str]()
    while True:
        factor = left / max(sum(sum(shapes[name]) for name in sizes if name not in dense), 1)
        full = {name for name in sizes if name not in dense and factor * sum(shapes[name]) >= sizes[name]}
        if not full:
            break
        dense |= full
        left -= sum(sizes[name] for name in full)
    shares = {name: float(sizes[name]) if name in dense else factor * sum(shapes[name]) for name in sizes}
    return _apportion(shares, shapes, density)


def _apportion(shares: Mapping[str, float], shapes: Shapes, density: float) -> dict[str, int]:
    """Whole numbers near the shares which add up to what the density keeps, by largest remainder.

    At a tie the kernel that comes first gets the weight.
    """
    names = list(shares)
    total = kept_weights(density, sum(math.prod(shape) for shape in shapes.values()))
    counts = {name: math.floor(share) for name, share in shares.items()}
    remainders = np.array([counts[name] - shares[name] for name in names])
    for place in np.argsort(remainders, kind="stable")[: total - sum(counts.values())].tolist():
        counts[names[place]] += 1
    return counts
