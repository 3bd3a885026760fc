"""What a task does with children that die; the children are simulated here and real in test_supervisor."""

import numpy as np
import pytest
from msgspec.structs import replace

from lottery.executor.child_environment import child_environment
from lottery.executor.supervisor import ChildError, Ended
from lottery.executor.task import GpuLostError, run_dense, run_tickets
from lottery.protocol import Failed, Progress, Saved, TaskPlacement, decode_event, decode_instructions, encode_event
from lottery.run.run_directory import ticket_result
from lottery.tickets.tickets import Ticket
from preprocessing.common.errors import Failure, InputError, Kind, StorageError
from preprocessing.common.storage import open_store
from tests.lottery.status_looks import activity

PLACEMENT = TaskPlacement(3, "host:1", "host", ("1",), 2, 4, 1)
SUPERVISE = "lottery.executor.child.supervise"
TICKETS = [Ticket(0, step) for step in (0, 5, 10)]


def says(kind, message, status):
    """A child that says why it ends."""

    def ends(on_line):
        on_line(encode_event(Failed(Failure(kind, message))))
        return Ended(status, f"exit status {status}", "log\nTraceback\n  of a library's last words")

    return ends


def child(monkeypatch, ends):
    monkeypatch.setattr(SUPERVISE, lambda *given: ends(given[4]))


@pytest.fixture
def gang(small, monkeypatch):
    """A sweep whose children finish the tickets that `behave` lets them, and die before the first that it does not."""
    sweep = small()
    sweep.run.write_mask(0, {"kernel": np.ones(4, bool)})
    bundles = []

    def run(behave, bundle="auto"):
        def supervise(module, message, environment, hang_after, on_line, other_ended):
            instructions = decode_instructions(message)
            assert instructions.placement == PLACEMENT
            assert environment == child_environment(("1",), 2)
            told = instructions.assignment
            on_line(b"a library's print\n")
            bundles.append([ticket.step for ticket in told.tickets])
            for ticket in told.tickets:
                on_line(encode_event(Progress(16, 0)))
                outcome = behave(ticket, len(bundles))
                if outcome == "saved":
                    on_line(encode_event(Saved()))
                if outcome == "memory":
                    return says(Kind.OUT_OF_MEMORY, "OOM when allocating 1 TB", status=3)(on_line)
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

        monkeypatch.setattr(SUPERVISE, supervise)
        run_tickets([sweep.assignment(TICKETS)], PLACEMENT, parameters=1000)
        return bundles, {result.step: result for result in sweep.run.results()}

    run.sweep = sweep
    return run


def test_one_bundle_if_memory_allows(gang):
    bundles, results = gang(lambda ticket, child: True)
    assert bundles == [[0, 5, 10]]
    assert {result.status for result in results.values()} == {"done"}
    (beat,) = gang.sweep.run.heartbeats.read()
    assert (beat.task, beat.done, beat.trainings, beat.images, beat.ended) == (3, 3, 3, 48, True)


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
    child(monkeypatch, says(Kind.STORAGE, "cannot write s3://b/x: timed out; check the network", status=74))
    with pytest.raises(StorageError, match="^cannot write"):
        run_tickets([gang.sweep.assignment(TICKETS)], PLACEMENT, 1000)
    assert not gang.sweep.run.results()


def test_heartbeats_say_what_is_trained_what_waits_and_what_has_died(gang, monkeypatch):
    beats = []
    monkeypatch.setattr("lottery.run.heartbeats.Heartbeats.write", lambda self, beat: beats.append(beat))
    monkeypatch.setattr("lottery.executor.task.BEAT_EVERY", 0.0)
    gang(lambda ticket, child: "saved" if (ticket.step, child) == (5, 1) else True)
    first, *others = beats
    steps = [30, 25, 20]  # of the three tickets, from their reset points on
    assert (first.done, first.waiting, first.gpus, first.seed) == (0, sum(steps), 1, None)
    assert {beat.waiting for beat in others} == {0}
    (died,) = [
        beat for beat in others if beat.deaths == 1 and beat.last_death and beat.unsaved == 0 and beat.done == 0
    ][:1]
    assert died.last_death == "killed by SIGKILL (out of memory?): first line | last line"
    assert max(beat.unsaved for beat in others) == 32
    assert (others[-1].deaths, others[-1].done, others[-1].activity) == (1, 3, None)
    assert [beat.ended for beat in beats] == [False] * len(others) + [True]


def test_what_a_child_that_ended_well_has_trained_is_in_results(gang, monkeypatch):
    beats = []
    monkeypatch.setattr("lottery.run.heartbeats.Heartbeats.write", lambda self, beat: beats.append(beat))
    monkeypatch.setattr("lottery.executor.task.BEAT_EVERY", 0.0)
    gang(lambda ticket, child: True)
    assert [beat.unsaved for beat in beats] == [0, 16, 32, 48, 0, 0]


def test_the_activity_of_a_child_is_in_the_heartbeats_until_it_ends(gang, monkeypatch):
    beats = []
    monkeypatch.setattr("lottery.run.heartbeats.Heartbeats.write", lambda self, beat: beats.append(beat))
    monkeypatch.setattr("lottery.executor.task.BEAT_EVERY", 0.0)
    doing = activity("00-000000-s0")

    def ends(on_line):
        on_line(encode_event(Progress(16, 0, doing)))
        on_line(encode_event(Progress(16, 0)))
        return Ended(143, "told to leave", "")

    left = iter([ends, ends])

    def supervise(*given):
        return next(left)(given[4])

    monkeypatch.setattr(SUPERVISE, supervise)
    with pytest.raises(StopIteration):
        run_tickets([gang.sweep.assignment(TICKETS)], PLACEMENT, 1000)
    at_work = [beat for beat in beats if beat.activity is not None]
    assert [beat.activity for beat in at_work] == [doing] * 4
    assert beats[3].activity is None  # the first child has ended
    assert {beat.deaths for beat in beats} == {0}  # it was told to


def test_of_tasks_that_train_together_the_chief_counts_what_is_not_saved(small, monkeypatch):
    """Only its child says that a checkpoint is written."""
    sweep, told = small(), {0: [Progress(16), Saved(), Progress(16)], 1: [Progress(16), Progress(16)]}

    def supervise(module, message, environment, hang_after, on_line, other_ended):
        for event in told[decode_instructions(message).placement.task]:
            on_line(encode_event(event))
        return says(Kind.BAD_INPUT, "data: gone; put it back", status=2)(on_line)

    monkeypatch.setattr(SUPERVISE, supervise)
    for task in told:
        with pytest.raises(InputError):
            run_dense([sweep.assignment(())], replace(PLACEMENT, task=task, endpoints=("one:1", "two:1")))
    assert [(beat.images, beat.unsaved) for beat in sweep.run.heartbeats.read()] == [(32, 32), (32, 0)]


def test_a_heartbeat_says_at_once_that_a_child_trains(small, monkeypatch):
    """A short training would end before the next heartbeat is due."""
    sweep, images = small(), []

    def supervise(module, message, environment, hang_after, on_line, other_ended):
        for event in (Progress(0), Progress(16), Progress(16)):
            on_line(encode_event(event))
            images.append(next(iter(sweep.run.heartbeats.read())).images)
        return says(Kind.BAD_INPUT, "data: gone; put it back", status=2)(on_line)

    monkeypatch.setattr(SUPERVISE, supervise)
    with pytest.raises(InputError):
        run_dense([sweep.assignment(())], PLACEMENT)
    assert images == [0, 16, 16]


def test_a_heartbeat_that_cannot_be_written_does_not_stop_a_task(gang, monkeypatch):
    def refuse(self, heartbeat):
        raise StorageError("away")

    monkeypatch.setattr("lottery.run.heartbeats.Heartbeats.write", refuse)
    _, results = gang(lambda ticket, child: True)
    assert len(results) == 3


def test_bad_input_in_a_child_ends_the_task_with_its_message(gang, monkeypatch):
    child(monkeypatch, says(Kind.BAD_INPUT, "data: gone; put it back", status=2))
    with pytest.raises(InputError, match="^data: gone; put it back$"):
        run_tickets([gang.sweep.assignment(TICKETS)], PLACEMENT, 1000)


def test_a_gpu_that_is_gone_fails_the_task_not_the_ticket(gang, monkeypatch):
    child(monkeypatch, says(Kind.GPU_LOST, "of the 1 GPUs that Spark gave the task TensorFlow sees 0", status=4))
    with pytest.raises(GpuLostError, match="^executor host:1: of the 1 GPUs"):
        run_tickets([gang.sweep.assignment(TICKETS)], PLACEMENT, 1000)
    assert not gang.sweep.run.results()


@pytest.mark.cluster
def test_a_real_child_without_its_gpu_says_so_and_trains_nothing(small):
    sweep = small()
    with pytest.raises(
        GpuLostError, match="executor host:1: of the 1 GPUs that Spark gave the task TensorFlow sees 0;"
    ):
        run_dense([sweep.assignment(())], replace(PLACEMENT, gpus=("GPU-stub",)))
    assert not open_store(sweep.run.uri).list("dense")


@pytest.mark.parametrize(
    ("status", "kind"), [(2, InputError), (74, StorageError), (4, GpuLostError), (1, ChildError), (-11, ChildError)]
)
def test_a_child_that_dies_without_a_word_is_known_by_its_status(status, kind, gang, monkeypatch):
    """Its log may be empty."""
    child(monkeypatch, lambda on_line: Ended(status, "ended", ""))
    with pytest.raises(Exception, match="its log is empty$") as caught:
        run_dense([gang.sweep.assignment(())], PLACEMENT)
    assert type(caught.value) is kind


def test_a_dense_run_that_dies_twice_ends_with_its_log(gang, monkeypatch):
    deaths = []
    monkeypatch.setattr(SUPERVISE, lambda *_: deaths.append(1) or Ended(-11, "killed by SIGSEGV", "the log"))
    with pytest.raises(ChildError, match="killed by SIGSEGV.*the log"):
        run_dense([gang.sweep.assignment(())], PLACEMENT)
    assert len(deaths) == 2


@pytest.mark.parametrize("line", [b"a print\n", b"\xff\n", b'{"type":"\xff"}\n', b'"\xff"\n'])
def test_a_librarys_print_is_not_an_event(line):
    assert decode_event(line) is None


def test_a_childs_log_is_logged_as_loudly_as_its_end(gang, monkeypatch, caplog):
    """LOTTERY_LOG_LEVEL=WARNING shows both or neither."""
    child(monkeypatch, lambda on_line: Ended(-11, "killed by SIGSEGV", "first line\nlast line"))
    with pytest.raises(ChildError):
        run_dense([gang.sweep.assignment(())], PLACEMENT)
    said = [(record.levelname, record.message.strip()) for record in caplog.records][:3]
    assert said == [
        ("WARNING", "task 3: child ended: killed by SIGSEGV; the end of its log:"),
        ("WARNING", "first line"),
        ("WARNING", "last line"),
    ]
