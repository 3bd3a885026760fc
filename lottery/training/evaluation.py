"""Evaluation of several states in one pass over a split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lottery.training.scores import Scores
from lottery.training.trainer import Trainer


class Evaluation(NamedTuple):
    """A network's scores on a split, and which of this worker's images it gets right, bool, in the order read."""

    scores: Scores
    right: NDArray[np.bool_]


def evaluate(
    trainer: Trainer,
    states: Sequence[Mapping[str, Any]],
    batches: Iterable[tuple[Any, Any]],
    block: int = 1,
    on_progress: Callable[[], None] = lambda: None,
) -> list[Evaluation]:
    """Evaluates each state over (uint8 images, int32 labels) batches of any sizes, which are read once.

    Loading a state can take longer than scoring a batch, so several states take turns on blocks of batches, not on
    batches. Each state sees the batches in their order: its scores are the same, to the bit, as if it were alone. One
    state alone is loaded once, and its batches are not held.

    Several workers are each given their part of the images, and all get the scores of the whole.

    Args:
        block: how many batches are held in memory if there are several states.
        on_progress: called for each batch that is read or scored.
    """
    states, totals = list(states), [np.zeros(4) for _ in states]
    right: list[list[NDArray[np.bool_]]] = [[] for _ in states]
    blocks = _blocks(batches, block, on_progress) if len(states) > 1 else [batches]
    for part in blocks:
        for index, state in enumerate(states):
            trainer.load_model(state)
            for images, labels in part:
                if len(labels):
                    sums, answers = trainer.score_sums(images, labels)
                    totals[index] += sums
                    right[index].append(answers)
                on_progress()
            states[index] = trainer.evaluated()
    none = np.zeros(0, bool)
    return [
        Evaluation(trainer.scores(total), np.concatenate([none, *answers]))
        for total, answers in zip(totals, right, strict=True)
    ]


def _blocks(
    batches: Iterable[tuple[Any, Any]], size: int, on_progress: Callable[[], None]
) -> Iterator[list[tuple[Any, Any]]]:
    reader = iter(batches)

    def read() -> Iterator[tuple[Any, Any]]:
        for batch in islice(reader, size):
            on_progress()
            yield batch

    while block := list(read()):
        yield block
        block.clear()  # else it would be held while the next one is read
