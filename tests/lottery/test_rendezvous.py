"""Ports are held from before they are announced, and no two tasks of a machine come to have the same."""

import socket
import threading

import pytest

from lottery.executor.rendezvous import meet
from preprocessing.common.errors import InputError


def free_range(count):
    """The first port of so many in a row that are free just now."""
    for first in range(20_000, 30_000, count):
        if all(is_free(port) for port in range(first, first + count)):
            return first
    raise AssertionError("no ports")


def is_free(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0 and not taken(port)


def taken(port):
    with socket.socket() as other:
        try:
            other.bind(("", port))
        except OSError:
            return True
        return False


class Announcements:
    """Spark's allGather among threads."""

    def __init__(self, tasks):
        self._lines, self._barrier = [""] * tasks, threading.Barrier(tasks, timeout=10)

    def of(self, task):
        def announce(line):
            self._lines[task] = line
            self._barrier.wait()
            lines = list(self._lines)
            self._barrier.wait()
            return lines

        return announce


def test_every_task_holds_what_it_announces_until_the_end():
    first = free_range(8)
    announced, held, ended = Announcements(3), threading.Barrier(4, timeout=10), threading.Barrier(4, timeout=10)
    seen = {}

    def task(rank):
        with meet(announced.of(rank), "127.0.0.1", rank, (first, first + 7)) as endpoints:
            seen[rank] = endpoints
            held.wait()
            ended.wait()

    threads = [threading.Thread(target=task, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    held.wait()
    ports = [int(endpoint.rsplit(":", 1)[1]) for endpoint in seen[0]]
    assert seen[0] == seen[1] == seen[2]
    assert len(set(ports)) == 3
    assert all(taken(port) for port in ports)
    ended.wait()
    for thread in threads:
        thread.join()
    assert not any(taken(port) for port in ports)


def test_a_server_that_shares_the_port_may_listen_on_it_and_another_after_it():
    first = free_range(2)
    with meet(lambda line: [line], "127.0.0.1", 0, (first, first + 1)) as (endpoint,):
        for _ in range(2):
            with socket.socket() as server, socket.socket() as client:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                server.bind(("0.0.0.0", int(endpoint.rsplit(":", 1)[1])))
                server.listen()
                client.connect(("127.0.0.1", first))
                server.accept()[0].close()


def test_a_port_that_is_taken_is_passed_over_and_an_end_of_the_range_turned_around():
    first = free_range(3)
    with socket.socket() as other:
        other.bind(("", first + 2))
        with meet(lambda line: [line], "h", 5, (first, first + 2)) as endpoints:  # 5 % 3: begins with the taken one
            assert endpoints == (f"h:{first}",)


def test_no_port_left():
    first = free_range(1)
    with socket.socket() as other:
        other.bind(("", first))
        none = pytest.raises(InputError, match=rf"gang.ports: \[{first}, {first}\]: no port is free")
        with none, meet(lambda line: [line], "h", 0, (first, first)):
            pass


def test_two_tasks_that_hold_the_same_port_choose_again():
    first = free_range(4)
    rounds = []

    def announce(line):
        rounds.append(line)
        return [line, f"h:{first}" if len(rounds) == 1 else f"h:{first + 3}"]

    with meet(announce, "h", 0, (first, first + 3)) as endpoints:
        assert rounds == [f"h:{first}", f"h:{first + 1}"]
        assert endpoints == (f"h:{first + 1}", f"h:{first + 3}")


def test_tasks_that_never_differ_are_an_error_in_the_end():
    first = free_range(8)
    with (
        pytest.raises(InputError, match="give a wider range"),
        meet(lambda line: [line, line], "h", 0, (first, first + 7)),
    ):
        pass
