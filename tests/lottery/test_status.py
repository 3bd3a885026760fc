"""A look at a run directory -> a snapshot -> text, JSON and a table."""

from __future__ import annotations

import io
import json
import re

import msgspec
import pytest
from rich.console import Console

from lottery.commands.status import as_json
from lottery.run.history import Happening
from lottery.status import schema
from lottery.status.estimate import executor_seconds
from lottery.status.reader import ReplicateLook
from lottery.status.snapshot import snapshot
from lottery.status.table import table
from lottery.status.text import lines, summary
from lottery.tickets.tickets import Ticket, all_tickets
from tests.lottery.paths import ROOT
from tests.lottery.status_looks import (
    AGAIN,
    BEGUN,
    DIED,
    FAILED,
    NOW,
    activity,
    beat,
    claim,
    dense,
    look,
    result,
)

TEXT = """\
runs/digits-0123: running, tickets, process 4711 on driver; 1 min 40 s left, until AT or later
dense run: done, top-1 0.9000
tickets and controls: 2 of 14 are done (1 diverged), 3 in training
  00-000005-s0 diverged: the loss is nan at step 7
executor-hours: 3.80 so far on 2 executors, 0.06 to come; 11.40 spent, 0.17 to come at 3 an hour of an executor
lost to 1 fault: 960 trained images, 2 min 00 s of one executor
  AT tickets: task 1 on host:1: process died: killed by SIGKILL: its log is empty (2 min 00 s of training lost)
task  executor  training         done   step  epoch  images/s   loss  top-1  GPU  input   CPU  MiB    W        left
   0  host:0    00-000010-s0 +1   1/4  20/30    2.0       8.0  0.250  0.750  88%     2%  180%  900  310  1 min 40 s
   1  host:1    01-000000-s0      1/4  20/30    2.0       8.0  0.250  0.750  88%     2%  180%  900  310        20 s"""


def all_done(made, status="done"):
    tickets = all_tickets(made.origin.experiment, made.origin.timeline)
    return {ticket: result(ticket, status=status) for ticket in tickets}


def without_times(text):
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "AT", text)


def test_a_running_sweep_as_text():
    assert without_times("\n".join(lines(snapshot(look(), 3.0)))) == TEXT


def test_a_line_for_a_log():
    said = without_times(summary(snapshot(look())))
    assert said == "AT running: tickets, 2 of 14 trainings done, 0 failed, 16.0 images/s, 1 min 40 s left"


def test_json_is_one_object_that_reads_back():
    made = snapshot(look(), 3.0)
    assert msgspec.json.decode(as_json(made), type=schema.Snapshot) == made
    tree = json.loads(as_json(made))
    assert tree["version"] == 1
    assert tree["trainings"] == {"total": 14, "done": 2, "diverged": 1, "failed": 0, "training": 3, "left": 12}
    assert tree["tasks"][0]["trainings"] == ["00-000010-s0", "00-000000-reinit-s0"]
    assert tree["cost"] == {"price_per_hour": 3.0, "spent": pytest.approx(11.4), "to_come": pytest.approx(1 / 6)}


def keys(kind):
    return {field.encode_name for field in msgspec.structs.fields(kind)}


PARTS = (schema.Snapshot, schema.Dense, schema.Trainings, schema.Replicate, schema.Problem, schema.Task, schema.Fault)


def test_every_key_of_the_json_is_documented():
    said = (ROOT / "docs" / "watching.md").read_text()
    for kind in (*PARTS, schema.Warned, schema.Cost):
        assert [key for key in keys(kind) if f"`{key}`" not in said] == [], kind


def test_the_keys_are_stable():
    """Scripts read them: a key that this test misses must not be renamed, only added to."""
    assert keys(schema.Snapshot) >= {
        *("version", "run", "time", "state", "stage", "last_sign", "dense", "trainings", "replicates", "problems"),
        *("tasks", "images_per_s", "executors", "executor_hours", "executor_hours_left", "seconds_left"),
        *("expected_end", "faults", "lost_images", "lost_seconds", "warnings", "cost"),
    }


def test_without_a_price_there_is_no_money():
    made = snapshot(look())
    assert made.cost is None
    assert made.executor_hours == pytest.approx(3.8)
    assert "spent" not in "\n".join(lines(made))


def test_the_hours_of_executors_that_were_lost_are_not_counted_on():
    made = snapshot(look(history=(*BEGUN, DIED, FAILED, AGAIN)))
    assert made.executor_hours == pytest.approx(2 * 1.6 + 0.3)
    assert (made.lost_images, made.lost_seconds) == (1280, 160)
    assert [fault.kind for fault in made.faults] == ["process died", "stage failed"]


def test_a_sweep_that_was_killed_held_its_executors_until_its_last_sign_of_life():
    rows = [
        Happening(time=0, kind="sweep began"),
        Happening(time=10, kind="stage began", slots=2),
        Happening(time=70, kind="alive"),
        Happening(time=1000, kind="sweep began"),
        Happening(time=1010, kind="stage began", slots=3),
        Happening(time=1020, kind="stage ended"),
        Happening(time=1030, kind="sweep ended"),
    ]
    assert executor_seconds(rows, None) == 2 * 60 + 3 * 20
    assert executor_seconds(rows[:3], 80) == 2 * 70
    assert executor_seconds(rows, 5000) == 2 * 60 + 3 * 20
    assert executor_seconds([], 5000) == 0


def test_a_dead_sweep_says_so_and_how_long_ago_it_lived():
    made = snapshot(look(alive=False, claim=claim(NOW - 30 * 60), heartbeats=[beat(time=NOW - 20 * 60)]))
    assert (made.state, made.last_sign, made.tasks, made.expected_end) == ("dead", NOW - 1200, (), None)
    first = lines(made)[0]
    assert "dead: process 4711 on driver" in first
    assert "last sign of life 20 min 00 s ago" in first


def test_a_sweep_that_ended_early_says_why():
    ended = Happening(time=NOW - 60, kind="sweep ended", message="gave up after 3 stages")
    made = snapshot(look(alive=False, claim=None, history=(*BEGUN, ended)))
    assert made.state == "stopped"
    assert lines(made)[0] == "runs/digits-0123: not running (gave up after 3 stages); last sign of life 3 s ago"


def test_a_finished_sweep_is_done_also_with_failed_tickets():
    made = look(alive=False, claim=None)
    found = snapshot(look(alive=False, claim=None, replicates=[ReplicateLook(None, dense(), all_done(made, "failed"))]))
    assert (found.state, found.trainings.failed, found.seconds_left) == ("done", 14, 0)
    assert lines(found)[0] == "runs/digits-0123: done"


def test_a_run_directory_of_an_earlier_version_has_no_history():
    old = look(history=(), alive=False, claim=None, heartbeats=[beat()])
    found = snapshot(old)
    assert (found.state, found.executor_hours, found.faults) == ("stopped", 0, ())


def test_before_the_dense_run_is_done_the_tickets_are_estimated_at_its_pace():
    """30 steps of the dense run at 0.5 a second; then 395 of tickets by two executors at 0.5 a second each."""
    training = beat(0, "dense", trainings=1, done=0, waiting=0, activity=activity("dense", step=0, steps_left=30))
    made = look(history=BEGUN[:2], heartbeats=[training], replicates=[ReplicateLook(None)])
    steps = sum(30 - (0 if ticket.control == "reinit" else ticket.step) for ticket in all_done(made))
    found = snapshot(made)
    assert found.seconds_left == pytest.approx(30 / 0.5 + steps / (2 * 0.5))
    assert found.dense[0].status == "training"


@pytest.mark.parametrize(("per_ticket", "at_work"), [(1, 1), (2, 2), (4, 3)])
def test_executors_that_train_a_ticket_together_share_its_steps(per_ticket, at_work):
    """25 steps of the one ticket that is left, at 0.5 a second of one executor, on three at most."""
    began = Happening(time=NOW - 1.9 * 3600, kind="stage began", stage="masks", tasks=1, slots=3, trainings=1)
    overrides = (f"gang.executors_per_ticket={per_ticket}",)
    ended = all_done(look())
    del ended[Ticket(0, 5)]
    made = look(overrides=overrides, history=(BEGUN[0], began), replicates=[ReplicateLook(None, dense(), ended)])
    assert snapshot(made).seconds_left == pytest.approx(25 / (at_work * 0.5))


def test_nothing_is_promised_while_a_tasks_pace_is_not_known():
    found = snapshot(look(heartbeats=[beat(0, "00-000010-s0"), beat(1)]))
    assert (found.seconds_left, found.expected_end) == (None, None)
    ended = snapshot(look(heartbeats=[beat(0, "00-000010-s0"), beat(1, done=4)]))
    assert ended.seconds_left == 80


def test_replicates_are_told_apart():
    made = look(
        overrides=("seeds=[0, 1]",),
        replicates=[ReplicateLook(0, dense()), ReplicateLook(1)],
        heartbeats=[beat(0, "00-000010-s0", seed=0), beat(1, "00-000010-s0", seed=1)],
    )
    found = snapshot(made)
    assert [(each.seed, each.trainings.training) for each in found.replicates] == [(0, 1), (1, 1)]
    assert found.trainings.total == 28
    said = "\n".join(lines(found))
    assert "dense run of seed 0: done" in said
    assert "dense run of seed 1: not done" in said
    assert "seed 1: 00-000010-s0" in said


def test_rounds_of_iterative_pruning_count_like_tickets():
    made = look(overrides=("masks={iterative: {keep: 0.5, rounds: 3}}",), heartbeats=[beat(0, "01-000005-s0")])
    found = snapshot(made)
    assert found.trainings.total == len(all_done(made))
    assert found.tasks[0].trainings == ("01-000005-s0",)


def test_a_result_that_came_after_the_heartbeat_is_not_in_training():
    found = snapshot(look(heartbeats=[beat(0, "00-000000-s0", "00-000010-s0")]))
    assert found.trainings.training == 1
    assert Ticket(0, 0).name == "00-000000-s0"


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal(width):
    console = Console(record=True, width=width, force_terminal=True, file=io.StringIO())
    long = "ip-10-0-128-255.eu-west-1.compute.internal:43561"
    made = look(heartbeats=[beat(0, "00-000010-s0", "00-000000-reinit-s0"), beat(1, "01-000000-s0")])
    named = [msgspec.structs.replace(each, executor=long) for each in made.heartbeats]
    console.print(table(snapshot(look(heartbeats=named), 3.0), width))
    shown = console.export_text().splitlines()
    assert "dense run: done, top-1 0.9000" in [line.rstrip() for line in shown]
    (names,) = [line for line in shown if line.startswith("task")]
    for name in ("training", "step", "images/s", "loss", "top-1", "GPU", "input", "left"):
        assert name in names
    rows = shown[shown.index(names) + 1 :]
    assert len(rows) == 2  # nothing wraps
    assert "00-000010-s0 +1" in rows[0]
    assert "1 min 40 s" in rows[0]
    assert "…" not in "".join(rows)
    assert ("CPU" in names) == (width == 120)


def test_a_lost_gpu_shows():
    lost = beat(0, "00-000010-s0", activity=activity("00-000010-s0", gpu_percent=None, gpus_lost=1))
    assert "1 lost" in "\n".join(lines(snapshot(look(heartbeats=[lost]))))


def test_what_a_user_wrote_is_not_markup():
    failed = result(Ticket(0, 0), status="failed", note="[bold]no such layer[/nonsense]")
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(table(snapshot(look(replicates=[ReplicateLook(None, dense(), {failed.ticket: failed})])), 100))
    assert "[bold]no such layer[/nonsense]" in console.export_text()


def searched(*trained):
    """A search on two reset points and two levels, of which these (level, step) are within the margin, or not."""
    scores = {(0, 0): 0.9, (0, 5): 0.9, (0, 10): 0.9, (1, 0): 0.2, (1, 5): 0.2, (1, 10): 0.2}
    tickets = [Ticket(level, step) for level, step in trained]
    results = {ticket: result(ticket, top1=scores[ticket.level, ticket.step]) for ticket in tickets}
    return look(
        overrides=("search=frontier", "tickets.controls=[]"),
        replicates=[ReplicateLook(None, dense(), results)],
        alive=False,
        claim=None,
    )


def test_a_search_is_done_when_it_is_over_and_not_when_the_grid_is():
    points = (0, 5, 10)
    assert snapshot(searched()).state == "stopped"
    assert snapshot(searched(*((1, step) for step in points))).state == "stopped"
    over = snapshot(searched(*((level, step) for level in (0, 1) for step in points)))
    assert (over.state, over.search) == ("done", "frontier")


def test_when_a_search_ends_is_not_known():
    found = snapshot(look(overrides=("search=frontier",)))
    assert (found.state, found.seconds_left, found.expected_end) == ("running", None, None)
    assert "2 of 14 are done, of which the search needs a part" in "\n".join(lines(found))
