"""How processes that train together find each other: by a port each, held from before it is announced to the end."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from preprocessing.common.errors import InputError

_ROUNDS = 5  # of announcing ports, before two tasks of a machine that pick the same again and again are an error


@contextlib.contextmanager
def meet(
    announce: Callable[[str], Sequence[str]], host: str, task: int, ports: tuple[int, int]
) -> Iterator[tuple[str, ...]]:
    """The endpoints (`host:port`) of all tasks by rank; this task's port is its own while the block runs.

    A port that is looked up, let go, and bound seconds later by TensorFlow may be another's by then. So it is held, by
    a socket that shares it with TensorFlow's server alone (SO_REUSEPORT, which the other side has to set as well), and
    serves one child after the other. Two tasks of one machine that came to hold the same see it in the announcements.

    Args:
        announce: gives a line to all tasks and returns those of all, by rank: `BarrierTaskContext.allGather`.
        host: this machine as the others reach it.
        ports: first and last that may be taken.

    Raises InputError if none of them is free.
    """
    tried: set[int] = set()
    with contextlib.ExitStack() as held:
        port = held.enter_context(_held(ports, task, tried))
        for _ in range(_ROUNDS):
            endpoints = tuple(announce(f"{host}:{port}"))
            twice = {endpoint for endpoint, count in Counter(endpoints).items() if count > 1}
            if not twice:
                yield endpoints
                return
            if f"{host}:{port}" in twice:
                held.close()
                tried.add(port)
                port = held.enter_context(_held(ports, task, tried))
    raise InputError(f"gang.ports: {list(ports)}: tasks on {host} keep picking the same port; give a wider range")


@contextlib.contextmanager
def _held(ports: tuple[int, int], task: int, tried: set[int]) -> Iterator[int]:
    """Holds the first free port from the task's own place in the range on, around its end."""
    first, last = ports
    count = last - first + 1
    for place in range(count):
        port = first + (task + place) % count
        if port in tried or not _is_free(port):
            continue
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            holder.bind(("", port))
        except OSError:
            holder.close()
            continue
        with holder:
            yield port
            return
    raise InputError(f"gang.ports: {list(ports)}: no port is free; give a range that nothing else on the machines uses")


def _is_free(port: int) -> bool:
    """Whether nobody has it, those who would share it included."""
    with socket.socket() as probe:
        # As a server does, which may follow on another whose last connections linger.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True
