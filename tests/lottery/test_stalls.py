"""Warnings of a gang that stands still, waits for its input or leaves its GPUs idle."""

from __future__ import annotations

import pytest

from lottery.status.stalls import Stalls
from tests.lottery.status_looks import activity, beat, experiment

SLOW = activity("00-000000-s0", input_wait=0.23)
FAST = activity("00-000000-s0")
IDLE = activity("00-000000-s0", gpu_percent=4.0)


def watch(stalls, *moments):
    """The warnings at each moment, which is (seconds, heartbeats)."""
    return [stalls.look(beats, now) for now, beats in moments]


def at(now, *activities, **fields):
    """Heartbeats that are fresh at a moment, one a task."""
    return now, [beat(task, activity=each, time=float(now), **fields) for task, each in enumerate(activities)]


def test_a_task_that_stands_still_is_told_once_and_again_after_it_had_recovered():
    stalls = Stalls(experiment("gang.hang_after=900"))
    still = [beat(0, activity=FAST, time=5.0)]
    assert watch(stalls, (0, still), (89, still)) == [[], []]
    (warning,) = stalls.look(still, 90)
    assert warning == (
        "task 0 on host:0 has made no progress for 90 s; its process is restarted after 900 s: "
        "if its steps take this long, raise gang.hang_after"
    )
    assert watch(stalls, (95, still), (500, still)) == [[], []]
    moved = [beat(0, activity=FAST, time=600.0)]
    assert watch(stalls, (600, moved), (689, moved)) == [[], []]
    assert len(stalls.look(moved, 690)) == 1


def test_a_task_that_beats_or_has_done_its_work_does_not_stand_still():
    stalls = Stalls(experiment("gang.hang_after=900"))
    assert not any(watch(stalls, *(at(now, FAST) for now in range(0, 1000, 10))))
    ended = [beat(0, done=4, trainings=4, time=5.0)]
    assert not any(watch(stalls, (2000, ended), (3000, ended)))
    with_the_chief = [beat(1, done=0, trainings=0, time=5.0, ended=True)]
    assert not any(watch(stalls, (2000, with_the_chief), (3000, with_the_chief)))


def test_heartbeats_come_every_few_seconds_however_small_hang_after_is():
    stalls = Stalls(experiment("gang.hang_after=10"))
    still = [beat(0, activity=FAST, time=5.0)]
    assert [len(found) for found in watch(stalls, (0, still), (14, still), (15, still))] == [0, 0, 1]


def test_waiting_for_input_is_told_after_a_minute_once_for_the_gang():
    stalls = Stalls(experiment())
    assert watch(stalls, at(0, SLOW, FAST), at(30, SLOW, SLOW), at(59, SLOW, SLOW)) == [[], [], []]
    _, (first, second) = at(60, SLOW, SLOW)
    (warning,) = stalls.look([first, second], 60)
    assert warning == (
        "task 0 on host:0 waited for input 23% of the last minute; raise input.threads, and with it the cores of a "
        "task (spark.task.cpus), or set data.augment: device"
    )
    assert watch(stalls, at(120, SLOW, SLOW), at(180, FAST, SLOW)) == [[], []]
    assert watch(stalls, at(200, FAST, FAST), at(210, SLOW, SLOW)) == [[], []]
    (again,) = stalls.look(at(270, SLOW, SLOW)[1], 270)
    assert again.startswith("tasks 0, 1 waited for input 23%")


def test_a_minute_begins_anew_when_the_input_keeps_up_in_between():
    stalls = Stalls(experiment())
    moments = at(0, SLOW), at(50, FAST), at(55, SLOW), at(110, SLOW)
    assert not any(watch(stalls, *moments))


def test_augmentation_on_the_device_is_not_advised_to_who_has_it():
    stalls = Stalls(experiment("data.augment=device", "data.flip=true"))
    _, (warnings) = watch(stalls, at(0, SLOW), at(60, SLOW))
    assert "data.augment" not in warnings[0]


@pytest.mark.parametrize(
    ("override", "key"),
    [("gang.bundle=auto", "raise data.batch"), ("gang.bundle=2", "raise gang.bundle, or data.batch")],
)
def test_an_idle_gpu_is_told(override, key):
    stalls = Stalls(experiment(override))
    _, (warning,) = watch(stalls, at(0, IDLE), at(60, IDLE))
    assert warning == f"task 0 on host:0 used the GPU 4% of the last minute; {key}"
    assert watch(stalls, at(300, IDLE)) == [[]]


@pytest.mark.parametrize(
    "fields", [{"evaluation": 0.9}, {"checkpoint_wait": 0.8}, {"gpu_percent": None}, {"gpu_percent": 50.0}]
)
def test_a_gpu_that_has_a_reason_to_rest_is_not_told(fields):
    stalls = Stalls(experiment())
    resting = activity("00-000000-s0", **{"gpu_percent": 4.0, **fields})
    assert not any(watch(stalls, at(0, resting), at(60, resting), at(120, resting)))


def test_a_gpu_that_waits_for_input_is_one_warning():
    stalls = Stalls(experiment())
    both = activity("00-000000-s0", gpu_percent=4.0, input_wait=0.9)
    _, warnings = watch(stalls, at(0, both), at(60, both))
    assert len(warnings) == 1
    assert "waited for input 90%" in warnings[0]
