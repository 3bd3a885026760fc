"""Which images a network gets right, as a small blob: a bit an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lottery.run import blobs

_EVALUATE, _SELECT = "evaluate", "select"


@dataclass(frozen=True)
class Answers:
    """Which images a trained network gets right, bool [images], in file order."""

    evaluate: NDArray[np.bool_]  # of the split on which it is judged
    select: NDArray[np.bool_] | None = None  # of the split on which the best reset point is chosen, if there is one

    def misfit(self, top1: float | None, select_top1: float | None) -> str:
        """Why these are not the answers behind recorded accuracies; empty if they are."""
        for right, recorded in ((self.evaluate, top1), (self.select, select_top1)):
            found = None if right is None else int(right.sum()) / len(right)
            if found != recorded:
                return f"its accuracy is {found}, not the recorded {recorded}"
        return ""


def pack(answers: Answers) -> bytes:
    """The answers as safetensors, eight images a byte (the first in the highest bit), with a checksum."""
    splits = {_EVALUATE: answers.evaluate, **({} if answers.select is None else {_SELECT: answers.select})}
    counts = {name: str(len(right)) for name, right in splits.items()}
    return blobs.pack({name: np.packbits(right) for name, right in splits.items()}, counts)


def unpack(blob: bytes) -> Answers:
    """The answers in a blob of `pack`. Raises ValueError if the blob holds none."""
    packed, counts = blobs.unpack(blob)
    try:
        splits = {name: np.unpackbits(packed[name], count=int(count)).astype(bool) for name, count in counts.items()}
        return Answers(splits[_EVALUATE], splits.get(_SELECT))
    except (KeyError, TypeError) as error:
        raise ValueError(f"a safetensors blob that holds no answers: {error}") from None
