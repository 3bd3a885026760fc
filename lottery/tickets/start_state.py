"""The state that a ticket starts from: mask x trellis state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from lottery.seeds import derived_seed
from lottery.tickets.masks import Mask
from lottery.tickets.tickets import Ticket, stream_seed

Arrays = Mapping[str, NDArray[Any]]


def start_state(
    saved: Arrays, mask: Mask, slots: Mapping[str, Sequence[str]], fresh_optimizer: Arrays | None = None
) -> dict[str, NDArray[Any]]:
    """A ticket's state before its first step: weights and optimizer slots are mask x saved state.

    Masked weights and their slots are 0. All else is as it was saved: kept weights, biases, statistics.

    Args:
        saved: arrays by path: the dense run's state at the ticket's trellis point, or for the `reinit` control newly
            initialised weights.
        mask: which weights are kept, by the kernel's path.
        slots: for each kernel's path the paths of its optimizer slots.
        fresh_optimizer: replaces the optimizer's part of the state (`optimizer_state: fresh`); None keeps the part
            that was saved (`rewind`).
    """
    state = {**saved, **(fresh_optimizer or {})}
    for kernel, kept in mask.items():
        for path in (kernel, *slots[kernel]):
            state[path] = state[path] * kept
    return state


def reinit_seed(ticket: Ticket, experiment_seed: int) -> int:
    """The seed of the new weights of a `reinit` control: one for each seed and mask."""
    return derived_seed("reinit", stream_seed(ticket.seed, experiment_seed), ticket.level)
