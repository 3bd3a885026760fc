"""Error barriers on the line between two trained networks (Frankle et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LinePoint:
    """A network on the line: `position` 0 is one of the two trained networks, 1 the other."""

    position: float
    error: float  # share of the evaluation images that it gets wrong
    loss: float | None  # None: not finite


@dataclass(frozen=True)
class Barrier:
    """The highest value on the line less the mean of its two ends; of the error a fraction, and of the loss.

    It is 0 between a network and itself, and never negative. Between ends that differ it is at least half their
    difference. That of the loss is None if a loss on the line is not finite.
    """

    error: float
    loss: float | None


def positions(count: int) -> list[float]:
    """`count` positions at equal distances on the line, both ends included. Raises ValueError for fewer than 2."""
    if count < 2:
        raise ValueError("a line has two ends")
    return [place / (count - 1) for place in range(count)]


def barrier(line: Sequence[LinePoint]) -> Barrier:
    """The barrier on a line of at least its two ends, the first and the last."""
    losses = [point.loss for point in line if point.loss is not None]
    return Barrier(_rise([point.error for point in line]), _rise(losses) if len(losses) == len(line) else None)


def _rise(values: Sequence[float]) -> float:
    return max(values) - (values[0] + values[-1]) / 2
