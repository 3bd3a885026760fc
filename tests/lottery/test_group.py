"""Tasks that train together come to the same decision."""

import threading
from types import SimpleNamespace

import pytest

from lottery.executor import group
from lottery.executor.group import BundleLimit, BundleOutcome, Group, combined
from lottery.executor.supervisor import ChildError, Ended
from lottery.run.run_directory import RunDirectory
from preprocessing.common.errors import Failure, Kind
from preprocessing.common.storage import open_store

DONE, LOST, KILLED = Ended(0, "done", ""), Ended(1, "lost", ""), Ended(-9, "killed", "")
WAITED = Ended(-9, "no progress", "", alone=True)
ABORTED = Ended(-6, "killed by SIGABRT", "")
REPORTED = Ended(1, "lost", "", Failure(Kind.OUT_OF_MEMORY, "OOM when allocating 1 TB"))
MEMORY, NOTICE = Ended(3, "memory", ""), Ended(143, "notice", "")


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(group, "_POLL", 0.01)
    return RunDirectory(open_store(str(tmp_path)))


def together(run, works, patience=10.0, stage="s"):
    """What each of several tasks, in a thread of its own, comes to."""
    found = {}

    def task(worker):
        found[worker] = works[worker](Group(run, stage, 0, worker, len(works), patience))

    threads = [threading.Thread(target=task, args=(worker,)) for worker in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[worker] for worker in range(len(works))]


def test_all_tasks_hear_what_came_of_all(run):
    said = [
        BundleOutcome(LOST, True, ("a", "b")),
        BundleOutcome(KILLED, False, ("b", "c")),
        BundleOutcome(LOST, False, ("b",)),
    ]
    works = [lambda g, outcome=outcome: g.agree(outcome) for outcome in said]
    assert together(run, works) == [BundleOutcome(KILLED, True, ("b",))] * 3


def test_messages_follow_one_another_and_do_not_mix(run):
    def work(numbers):
        return lambda g: [g.least(BundleLimit(number)).tickets for number in numbers]

    assert together(run, [work((5, 1, 7)), work((3, 4, 9))]) == [[3, 1, 7]] * 2
    assert together(run, [work((8,)), work((6,))], stage="later") == [[6]] * 2


def test_a_task_alone_asks_nobody(run):
    alone = Group(run, "s", 0, 0, 1, 0.0)
    assert alone.agree(BundleOutcome(KILLED, False, ("a",))) == BundleOutcome(KILLED, False, ("a",))
    assert alone.least(BundleLimit(3)) == BundleLimit(3)
    assert open_store(run.uri).list() == []


def test_a_task_that_sends_nothing_is_not_waited_for_for_ever(run):
    with pytest.raises(ChildError, match="^1 of the 2 tasks that train together sent no message"):
        Group(run, "s", 0, 0, 2, 0.05).least(BundleLimit(1))


def test_a_task_sees_that_anothers_child_has_ended_in_this_round_alone(run, monkeypatch):
    monkeypatch.setattr(group, "_LOOK_EVERY", 0.0)
    one, other = (Group(run, "s", 0, worker, 2, 0.05) for worker in range(2))
    assert not one.other_ended()
    with pytest.raises(ChildError):
        other.agree(BundleOutcome(KILLED, False, ()))
    assert one.other_ended()
    assert one.agree(BundleOutcome(WAITED, False, ())).ended == KILLED
    assert not one.other_ended()


def test_a_look_that_takes_long_is_not_followed_by_another_at_once(run, monkeypatch):
    """While storage is away a look takes longer than the time between looks; in between, the child has to be heard."""
    now, looks = [100.0], []
    monkeypatch.setattr(group, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def look(*arguments):
        looks.append(now[0])
        now[0] += 60.0
        return []

    monkeypatch.setattr(run.mailbox, "messages", look)
    one = Group(run, "s", 0, 0, 2, 0.05)
    assert not one.other_ended()
    assert not one.other_ended()
    assert looks == [100.0]
    now[0] += group._LOOK_EVERY
    assert not one.other_ended()
    assert looks == [100.0, 170.0]


def test_a_message_that_is_deleted_during_a_look_ends_no_child(run, monkeypatch):
    def look(*arguments):
        raise FileNotFoundError("000001-000.json")

    monkeypatch.setattr(run.mailbox, "messages", look)
    assert not Group(run, "s", 0, 0, 2, 0.05).other_ended()


def test_a_task_alone_looks_for_nobody(run):
    assert not Group(run, "s", 0, 0, 1, 0.0).other_ended()


@pytest.mark.parametrize(
    ("endings", "explains"),
    [
        ([DONE, DONE], DONE),
        ([DONE, LOST], LOST),
        ([LOST, KILLED], KILLED),
        ([LOST, ABORTED, KILLED], KILLED),
        ([LOST, NOTICE, KILLED], NOTICE),  # of a machine that is taken away, which is nobody's fault
        ([LOST, KILLED, MEMORY], MEMORY),
        ([WAITED, KILLED], KILLED),
        ([WAITED, NOTICE], NOTICE),
        ([LOST, NOTICE, KILLED, REPORTED], REPORTED),
    ],
)
def test_what_explains(endings, explains):
    outcomes = [BundleOutcome(ended, False, ()) for ended in endings]
    assert combined(outcomes).ended == combined(outcomes[::-1]).ended == explains
