"""Tasks that train the same tickets together, and have to agree on what they do next."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass

import msgspec

from lottery.executor.supervisor import ChildError, Ended
from lottery.protocol import EXIT_OUT_OF_MEMORY
from lottery.run.run_directory import RunDirectory

_POLL = 1.0  # seconds


@dataclass(frozen=True)
class Outcome:
    """How a child ended, whether it saved a checkpoint, and the names of the trainings that have no result yet."""

    ended: Ended
    saved: bool
    left: tuple[str, ...]


class Group:
    """The tasks, one or several, that train the same tickets together, each with a child of its own.

    Where one child dies the others lose it within half a minute and die too, each of something else. What is done about
    it must be the same everywhere, so every task leaves what it knows in the run directory and reads the others'.

    Args:
        stage: of the gang: what an earlier one left is not taken for this one's.
        number: of the group in the gang.
        worker, workers: this task's place in the group, and how many there are.
        patience: seconds that the others may take longer to get there.
    """

    def __init__(self, run: RunDirectory, stage: str, number: int, worker: int, workers: int, patience: float) -> None:
        self._mailbox = run.mailbox
        self._worker, self._workers, self._patience = worker, workers, patience
        self._folder = f"{stage}-{number:03d}"
        self._round = 0

    def agree(self, outcome: Outcome) -> Outcome:
        """What came of all tasks' children. Raises ChildError where a task does not say in time."""
        return combined([msgspec.json.decode(blob, type=Outcome) for blob in self._exchange(outcome)])

    def least(self, number: int) -> int:
        """The least of all tasks' numbers. Raises ChildError where a task does not say in time."""
        return min(msgspec.json.decode(blob, type=int) for blob in self._exchange(number))

    def _exchange(self, own: object) -> list[bytes]:
        blob = msgspec.json.encode(own)
        if self._workers == 1:
            return [blob]
        self._round += 1
        self._mailbox.post(self._folder, self._round, self._worker, blob)
        deadline = time.monotonic() + self._patience
        while True:
            found = self._mailbox.messages(self._folder, self._round)
            if len(found) == self._workers:
                return found
            if time.monotonic() > deadline:
                raise ChildError(
                    f"of {self._workers} tasks that train together {self._workers - len(found)} said nothing for "
                    f"{self._patience:.0f} s; look at the logs of their executors"
                )
            time.sleep(_POLL)


def combined(outcomes: list[Outcome]) -> Outcome:
    """The outcome of a group: how the child ended that explains the others, and what nobody sees a result of.

    A child that only lost another ends with a plain status of 1, or is aborted by TensorFlow. A shared folder may show
    a result late to some.
    """
    ended = min((outcome.ended for outcome in outcomes), key=_rank)
    seen_by_none = set(outcomes[0].left).intersection(*(outcome.left for outcome in outcomes))
    left = tuple(name for name in outcomes[0].left if name in seen_by_none)
    return Outcome(ended, any(outcome.saved for outcome in outcomes), left)


def _rank(ended: Ended) -> int:
    if ended.status == EXIT_OUT_OF_MEMORY:
        return 0
    if ended.on_notice:
        return 1
    if ended.status < 0 and ended.status != -signal.SIGABRT:
        return 2
    return 4 if ended.status == 0 else 3
