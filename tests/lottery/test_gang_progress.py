"""What the driver says and keeps of a stage, from its tasks' heartbeats."""

from __future__ import annotations

import logging
import time

import pytest

from lottery.driver import gang_progress as module
from lottery.driver.gang import GangError
from lottery.driver.gang_progress import Stage, gang_progress, sweep_history
from lottery.run.history import Happening
from tests.lottery.status_looks import activity, beat

STAGE = Stage("tickets", tasks=2, slots=3, trainings=8, steps=100)


@pytest.fixture
def sweep(small, monkeypatch, caplog):
    monkeypatch.setattr(module, "_POLL", 0.01)
    caplog.set_level(logging.INFO)
    return small("gang.hang_after=900")


def kept(sweep):
    return [(row.kind, row.stage or row.message) for row in sweep.run.history.read()]


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def seen(sweep, kind):
    return [row for row in sweep.run.history.read() if row.kind == kind]


def test_stages_of_a_sweep_are_kept(sweep):
    with sweep_history(sweep), gang_progress(sweep, STAGE):
        pass
    began = seen(sweep, "stage began")[0]
    assert began == Happening(time=began.time, kind="stage began", stage="tickets", tasks=2, slots=3, trainings=8)
    assert kept(sweep) == [
        ("sweep began", ""),
        ("stage began", "tickets"),
        ("stage ended", "tickets"),
        ("sweep ended", ""),
    ]


def fail(sweep, error):
    with sweep_history(sweep), gang_progress(sweep, STAGE):
        sweep.run.heartbeats.write(beat(0, "00-000000-s0", unsaved=160))
        sweep.run.heartbeats.write(beat(1, unsaved=0))
        time.sleep(0.2)
        raise error


def test_a_stage_that_fails_is_kept_with_what_it_cost(sweep):
    with pytest.raises(GangError, match="executor lost"):
        fail(sweep, GangError("executor lost"))
    (failed,) = seen(sweep, "stage failed")
    assert (failed.message, failed.lost_images, failed.lost_seconds) == ("executor lost", 160, 20.0)
    assert kept(sweep)[-1] == ("sweep ended", "executor lost")


def test_an_interrupted_sweep_says_so(sweep):
    with pytest.raises(KeyboardInterrupt):
        fail(sweep, KeyboardInterrupt())
    assert kept(sweep) == [("sweep began", ""), ("stage began", "tickets"), ("sweep ended", "KeyboardInterrupt")]


def test_a_process_that_dies_is_one_warning_with_what_was_lost(sweep, caplog):
    with gang_progress(sweep, STAGE):
        sweep.run.heartbeats.write(beat(1, "00-000000-s0"))
        time.sleep(0.2)
        sweep.run.heartbeats.write(beat(1, deaths=1, last_death="killed by SIGKILL: none", unsaved=800))
        wait_for(lambda: seen(sweep, "process died"))
        time.sleep(0.1)
    (died,) = seen(sweep, "process died")
    assert (died.task, died.executor, died.message) == (1, "host:1", "killed by SIGKILL: none")
    assert (died.lost_images, died.lost_seconds) == (800, 100.0)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["task 1 on host:1: its process died: killed by SIGKILL: none; 1 min 40 s of training lost"]


def die_and_fail(sweep):
    with gang_progress(sweep, STAGE):
        sweep.run.heartbeats.write(beat(0, "00-000000-s0", unsaved=160))
        sweep.run.heartbeats.write(beat(1, deaths=1, last_death="killed", unsaved=800))
        wait_for(lambda: seen(sweep, "process died"))
        raise GangError("executor lost")


def test_what_a_death_has_lost_is_not_lost_again_by_the_stage(sweep):
    with pytest.raises(GangError):
        die_and_fail(sweep)
    assert [row.lost_images for row in seen(sweep, "process died")] == [800]
    assert [row.lost_images for row in seen(sweep, "stage failed")] == [160]


def test_a_death_just_before_the_stage_ends_is_kept(sweep, monkeypatch):
    monkeypatch.setattr(module, "_POLL", 3600.0)
    with gang_progress(sweep, STAGE):
        sweep.run.heartbeats.write(beat(1, deaths=1, last_death="killed"))
    assert [row.message for row in seen(sweep, "process died")] == ["killed"]


def test_a_stall_is_one_warning_in_the_log_and_in_the_history(sweep, monkeypatch, caplog):
    monkeypatch.setattr("lottery.status.stalls._LONG", 0.05)
    slow = activity("00-000000-s0", input_wait=0.4)
    with gang_progress(sweep, STAGE):
        sweep.run.heartbeats.write(beat(0, activity=slow))
        wait_for(lambda: seen(sweep, "warning"))
        time.sleep(0.2)
    (row,) = seen(sweep, "warning")
    assert "input.threads" in row.message
    assert caplog.text.count("waited for input 40%") == 1


def test_a_line_a_minute_and_a_sign_of_life(sweep, monkeypatch, caplog):
    with gang_progress(sweep, STAGE):
        sweep.run.heartbeats.write(beat(0, "00-000000-s0"))
        time.sleep(0.3)
    assert caplog.text.count("tickets: ") == 1  # the last one
    assert "tickets: 100 of 100 steps (100%)" in caplog.text
    assert "trainings done 1 of 8" in caplog.text
    caplog.clear()
    monkeypatch.setattr(module, "_LINE_EVERY", 0.05)
    with gang_progress(sweep, STAGE):
        wait_for(lambda: seen(sweep, "alive"))
        wait_for(lambda: caplog.text.count("tickets: ") > 2)
    assert kept(sweep)[-1] == ("stage ended", "tickets")


def test_masks_have_no_steps_and_no_line(sweep, caplog):
    with gang_progress(sweep, Stage("masks", tasks=1, slots=3, trainings=1)):
        time.sleep(0.05)
    assert kept(sweep) == [("stage began", "masks"), ("stage ended", "masks")]
    assert "masks:" not in caplog.text
