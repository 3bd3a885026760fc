"""What a task does with children that die; the children are simulated here and real in test_supervisor."""

from dataclasses import replace

import numpy as np
import pytest

from lottery.executor import task as gang_task
from lottery.executor.supervisor import ChildError, Ended
from lottery.executor.task import GpuLostError, Place, child_environment, run_dense, run_tickets
from lottery.run.run_directory import ticket_result
from lottery.tickets.tickets import Ticket
from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.storage import open_store

PLACE = Place(3, "host:1", "host", ("1",), 2, 4, 1)
TICKETS = [Ticket(0, step) for step in (0, 5, 10)]


@pytest.fixture
def gang(small, monkeypatch):
    """A sweep whose children finish the tickets that `behave` lets them, and die before the first that it does not."""
    sweep = small()
    sweep.run.write_mask(0, {"kernel": np.ones(4, bool)})
    bundles = []

    def run(behave, bundle="auto"):
        def supervise(module, message, environment, hang_after, on_event):
            from lottery.protocol import decode

            told = decode(__import__("json").dumps(message).encode())
            assert (told.task, told.executor, told.threads) == (3, "host:1", 2)
            assert environment["CUDA_VISIBLE_DEVICES"] == "1"
            assert told.gpus == 1
            bundles.append([ticket.step for ticket in told.tickets])
            for ticket in told.tickets:
                on_event({"images": 16, "done": 0})
                outcome = behave(ticket, len(bundles))
                if outcome == "saved":
                    on_event({"saved": 1})
                if outcome == "memory":
                    return Ended(3, "exit status 3", "Error:\nOOM when allocating 1 TB\nHint: when OOM happens")
                if outcome == "notice":
                    return Ended(143 if len(bundles) % 2 else -15, "told to leave", "")
                if outcome is not True:
                    return Ended(-9, "killed by SIGKILL (out of memory?)", "first line\nlast line")
                sweep.run.write_result(
                    ticket_result(
                        ticket,
                        sweep.experiment,
                        sweep.timeline,
                        {"kernel": np.ones(4, bool)},
                        status="done",
                        note="",
                        executor="host:1",
                        task=3,
                    )
                )
            return Ended(0, "exit status 0", "")

        monkeypatch.setattr(gang_task, "supervise", supervise)
        run_tickets(sweep.assignment(TICKETS), PLACE, parameters=1000)
        return bundles, {result.step: result for result in sweep.run.results()}

    run.sweep = sweep
    return run


def test_one_bundle_where_memory_allows(gang):
    bundles, results = gang(lambda ticket, child: True)
    assert bundles == [[0, 5, 10]]
    assert {result.status for result in results.values()} == {"done"}
    (beat,) = gang.sweep.run.heartbeats.read()
    assert (beat.task, beat.done, beat.trainings, beat.images) == (3, 3, 3, 48)


def test_a_killed_child_is_followed_by_one_for_what_is_left(gang):
    bundles, results = gang(lambda ticket, child: ticket.step == 0 or child > 1)
    assert bundles == [[0, 5, 10], [5, 10]]
    assert {result.status for result in results.values()} == {"done"}


def test_a_ticket_that_kills_its_process_fails_alone(gang):
    bundles, results = gang(lambda ticket, child: ticket.step != 5)
    assert bundles == [[0, 5, 10], [5, 10], [5], [5], [10]]
    assert [results[step].status for step in (0, 5, 10)] == ["done", "failed", "done"]
    assert results[5].note == (
        "its process died again and again: killed by SIGKILL (out of memory?): first line | last line"
    )
    assert (results[5].executor, results[5].task) == ("host:1", 3)
    assert results[5].kept == 4


def test_a_bundle_that_does_not_fit_into_memory_is_halved(gang):
    bundles, results = gang(lambda ticket, child: True if child > 2 else "memory")
    assert bundles == [[0, 5, 10], [0], [0], [5, 10]]
    assert {result.status for result in results.values()} == {"done"}


def test_a_ticket_that_does_not_fit_into_memory_fails_alone(gang):
    bundles, results = gang(lambda ticket, child: "memory" if ticket.step == 5 else True)
    assert bundles == [[0, 5, 10], [5], [5], [10]]
    assert results[5].note == "out of memory: OOM when allocating 1 TB"
    assert {step: result.status for step, result in results.items()} == {0: "done", 5: "failed", 10: "done"}


def test_a_child_that_dies_often_but_gets_on_is_not_given_up(gang):
    bundles, results = gang(lambda ticket, child: "saved" if child < 6 else True)
    assert bundles == [[0, 5, 10]] * 6
    assert {result.status for result in results.values()} == {"done"}


def test_a_child_that_is_told_to_leave_is_followed_by_another(gang):
    bundles, results = gang(lambda ticket, child: "notice" if child < 6 else True)
    assert bundles == [[0, 5, 10]] * 6
    assert {result.status for result in results.values()} == {"done"}


def test_storage_that_is_away_fails_the_task_not_the_ticket(gang, monkeypatch):
    ended = Ended(74, "exit status 74", "error: cannot write s3://b/x: timed out; check the network")
    monkeypatch.setattr(gang_task, "supervise", lambda *_: ended)
    with pytest.raises(StorageError, match="^cannot write"):
        run_tickets(gang.sweep.assignment(TICKETS), PLACE, 1000)
    assert not gang.sweep.run.results()


def test_a_sign_of_life_that_cannot_be_written_is_no_reason_to_stop(gang, monkeypatch):
    def refuse(self, heartbeat):
        raise StorageError("away")

    monkeypatch.setattr("lottery.run.heartbeats.Heartbeats.write", refuse)
    _, results = gang(lambda ticket, child: True)
    assert len(results) == 3


def test_bad_input_in_a_child_ends_the_task_with_its_message(gang, monkeypatch):
    monkeypatch.setattr(
        gang_task, "supervise", lambda *_: Ended(2, "exit status 2", "log\nerror: data: gone; put it back")
    )
    with pytest.raises(InputError, match="^data: gone; put it back$"):
        run_tickets(gang.sweep.assignment(TICKETS), PLACE, 1000)


def test_a_gpu_that_is_gone_fails_the_task_not_the_ticket(gang, monkeypatch):
    ended = Ended(4, "exit status 4", "log\nerror: of the 1 GPUs that Spark gave the task TensorFlow sees 0")
    monkeypatch.setattr(gang_task, "supervise", lambda *_: ended)
    with pytest.raises(GpuLostError, match="^executor host:1: of the 1 GPUs"):
        run_tickets(gang.sweep.assignment(TICKETS), PLACE, 1000)
    assert not gang.sweep.run.results()


@pytest.mark.cluster
def test_a_real_child_without_its_gpu_says_so_and_trains_nothing(small):
    sweep = small()
    with pytest.raises(
        GpuLostError, match="executor host:1: of the 1 GPUs that Spark gave the task TensorFlow sees 0;"
    ):
        run_dense(sweep.assignment(()), replace(PLACE, gpus=("GPU-stub",)))
    assert not open_store(sweep.run.uri).list("dense")


def test_gpus_that_are_not_to_be_checked_are_not(small, monkeypatch):
    told = []
    monkeypatch.setattr(gang_task, "supervise", lambda *words: told.append(words[1]) or Ended(2, "", "error: enough"))
    with pytest.raises(InputError, match="enough"):
        run_dense(small("gang.check_gpus=false").assignment(()), PLACE)
    assert [message["gpus"] for message in told] == [0]


def test_a_dense_run_that_dies_twice_ends_with_its_log(gang, monkeypatch):
    deaths = []
    monkeypatch.setattr(
        gang_task, "supervise", lambda *_: deaths.append(1) or Ended(-11, "killed by SIGSEGV", "the log")
    )
    with pytest.raises(ChildError, match="killed by SIGSEGV.*the log"):
        run_dense(gang.sweep.assignment(()), PLACE)
    assert len(deaths) == 2


def test_a_child_sees_the_gpus_of_its_task_and_no_other():
    assert child_environment(("GPU-5", "GPU-7"), 4)["CUDA_VISIBLE_DEVICES"] == "GPU-5,GPU-7"
    assert child_environment((), 4)["CUDA_VISIBLE_DEVICES"] == "-1"
    assert child_environment((), 4)["OMP_NUM_THREADS"] == "4"
