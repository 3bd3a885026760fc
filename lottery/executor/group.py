"""Tasks that train the same tickets together, and have to agree on what they do next."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TypeVar

import msgspec

from lottery.executor.supervisor import ChildError, Ended
from lottery.run.run_directory import RunDirectory
from preprocessing.common.errors import Kind, StorageError

_POLL = 1.0  # seconds
_LOOK_EVERY = 10.0  # seconds, while the child is at work

Message = TypeVar("Message", bound=msgspec.Struct)


class BundleOutcome(msgspec.Struct, frozen=True):
    """How a child ended, whether it saved a checkpoint, and the names of the trainings that have no result yet."""

    ended: Ended
    saved: bool
    left: tuple[str, ...]


class BundleLimit(msgspec.Struct, frozen=True):
    """How many tickets a task has memory for at once."""

    tickets: int


class Group:
    """The tasks, one or several, that train the same tickets together, each with a child of its own.

    When one child dies, the others lose it within half a minute and die too, each with another error. All tasks must
    react in the same way, so each leaves a message with what it knows in the run directory and reads the others'.

    Args:
        stage: names this stage of the gang: messages of an earlier one are not read.
        number: the group's, in the gang.
        worker, workers: this task's rank in the group, and how many there are.
        patience: seconds that the others may come later.
    """

    def __init__(self, run: RunDirectory, stage: str, number: int, worker: int, workers: int, patience: float) -> None:
        self._mailbox = run.mailbox
        self._worker, self._workers, self._patience = worker, workers, patience
        self._folder = f"{stage}-{number:03d}"
        self._round = 0
        self._looked = 0.0

    def agree(self, outcome: BundleOutcome) -> BundleOutcome:
        """What came of all tasks' children. Raises ChildError if a task sends no message in time."""
        return combined(self._exchange(outcome))

    def other_ended(self) -> bool:
        """Whether another task's child, which trains with this one's, has ended. Looks 10 s after the last look."""
        if self._workers == 1 or time.monotonic() - self._looked < _LOOK_EVERY:
            return False
        # Both errors are of no matter while the child is well; a message may be deleted between listing and reading it.
        with contextlib.suppress(StorageError, FileNotFoundError):
            try:
                return bool(self._mailbox.messages(self._folder, self._round + 1))
            finally:  # not before: a look takes minutes while storage is away, and the child is not heard meanwhile
                self._looked = time.monotonic()
        return False

    def least(self, limit: BundleLimit) -> BundleLimit:
        """The smallest of all tasks' limits. Raises ChildError if a task sends no message in time."""
        return min(self._exchange(limit), key=lambda each: each.tickets)

    def _exchange(self, own: Message) -> list[Message]:
        """The messages of all tasks, by worker, this one's among them."""
        if self._workers == 1:
            return [own]
        self._round += 1
        self._mailbox.post(self._folder, self._round, self._worker, msgspec.json.encode(own))
        deadline = time.monotonic() + self._patience
        while True:
            found = self._mailbox.messages(self._folder, self._round)
            if len(found) == self._workers:
                return [msgspec.json.decode(message, type=type(own)) for message in found]
            if time.monotonic() > deadline:
                raise ChildError(
                    f"{self._workers - len(found)} of the {self._workers} tasks that train together sent no message "
                    f"for {self._patience:.0f} s; look at the logs of their executors"
                )
            time.sleep(_POLL)


def combined(outcomes: list[BundleOutcome]) -> BundleOutcome:
    """The outcome of a group: the end of the child that explains the others', and what no task sees a result of.

    A child that only lost another ends with a plain status of 1, or is aborted by TensorFlow. A shared folder may show
    a result late to some.
    """
    ended = min((outcome.ended for outcome in outcomes), key=_rank)
    seen_by_none = set(outcomes[0].left).intersection(*(outcome.left for outcome in outcomes))
    left = tuple(name for name in outcomes[0].left if name in seen_by_none)
    return BundleOutcome(ended, any(outcome.saved for outcome in outcomes), left)


def _rank(ended: Ended) -> int:
    if ended.kind is Kind.OUT_OF_MEMORY:
        return 0
    if ended.alone:
        return 4
    if ended.on_notice:
        return 1
    if ended.status < 0 and ended.status != -signal.SIGABRT:
        return 2
    return 4 if ended.kind is None else 3
