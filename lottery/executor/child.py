"""One child process with TensorFlow: what it is told, the events that it reports, and what its end means."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from lottery.executor.supervisor import Ended, supervise
from lottery.protocol import Event, Failed, Told, decode_event
from preprocessing.common.errors import Failure, InputError, Kind, StorageError


def run_child(
    told: Told,
    environment: Mapping[str, str],
    hang_after: float,
    on_event: Callable[[Event], None],
    other_ended: Callable[[], bool] = lambda: False,
) -> Ended:
    """Runs `lottery.worker` to its end, as `supervise` does; `on_event` gets what it reports, except for a failure."""
    failures: list[Failure] = []

    def hear(line: bytes) -> None:
        event = decode_event(line)
        if isinstance(event, Failed):
            failures.append(event.failure)
        elif event is not None:
            on_event(event)

    ended = supervise("lottery.worker", told.encode(), environment, hang_after, hear, other_ended)
    return msgspec.structs.replace(ended, failure=failures[-1]) if failures else ended


def raise_input_error(ended: Ended) -> None:
    """Raises the InputError or StorageError that ended a child, if one did."""
    if ended.kind is Kind.BAD_INPUT:
        raise InputError(ended.message)
    if ended.kind is Kind.STORAGE:
        raise StorageError(ended.message)
