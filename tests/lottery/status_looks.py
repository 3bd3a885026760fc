"""Run directories as a sweep leaves them at some moment, for tests of `status`."""

from __future__ import annotations

import msgspec

from lottery.experiment import config
from lottery.run.heartbeats import Activity, Heartbeat
from lottery.run.history import Happening
from lottery.run.origin import Origin
from lottery.run.results import DenseResult, TicketResult
from lottery.status.reader import Look, ReplicateLook
from lottery.tickets.tickets import Ticket
from preprocessing.common.claim import Claim
from tests.lottery.paths import DIGITS
from tests.lottery.small_sweep import SMALL

NOW = 1_800_000_000.0
HOUR = 3600.0


def experiment(*overrides):
    return config.load(DIGITS, (*SMALL, *overrides))


def dense(**fields):
    numbers = {"evaluated": 160, "steps": 30, "seconds": 60.0, "parameters": 1000, "prunable": 900}
    known = {"status": "done", "note": "", "top1": 0.9, "top5": 1.0, "loss": 0.4}
    return DenseResult(**{**known, **numbers, **fields})


def result(ticket, **fields):
    known = {
        "level": ticket.level,
        "density": 0.5,
        "kept": 450,
        "prunable": 900,
        "step": ticket.step,
        "epoch": 0.0,
        "control": ticket.control,
        "seed": ticket.seed,
        "status": "done",
        "note": "",
        "top1": 0.8,
        "top5": 1.0,
        "loss": 0.5,
        "steps": 30,
        "seconds": 10.0,
        "executor": "host:1",
        "task": 0,
    }
    return TicketResult(**{**known, **fields})


def activity(*names, **fields):
    known = {
        "step": 20,
        "total": 30,
        "steps_left": 10 * len(names),
        "steps_per_s": 0.5,
        "images_per_s": 8.0,
        "loss": 0.25,
        "top1": 0.75,
        "input_wait": 0.02,
        "device_wait": 0.9,
        "cpu_percent": 180.0,
        "memory_mib": 900.0,
        "gpu_percent": 88.0,
        "gpu_watts": 310.0,
    }
    return Activity(trainings=names, **{**known, **fields})


def beat(task=0, *names, **fields):
    known = {"trainings": 4, "done": 1, "images": 1600, "saved": 2, "time": NOW - 3, "gpus": 1, "waiting": 30}
    made = activity(*names) if names else None
    return Heartbeat(task=task, executor=f"host:{task}", **{**known, "activity": made, **fields})


def claim(heartbeat=NOW - 10):
    return Claim("token", "driver", 4711, NOW - 2 * HOUR, NOW - 2 * HOUR, heartbeat)


BEGUN = (
    Happening(time=NOW - 2 * HOUR, kind="sweep began"),
    Happening(time=NOW - 1.9 * HOUR, kind="stage began", stage="dense run", tasks=1, slots=2, trainings=1),
    Happening(time=NOW - 1 * HOUR, kind="stage ended", stage="dense run"),
    Happening(time=NOW - 0.9 * HOUR, kind="stage began", stage="tickets", tasks=2, slots=2, trainings=10),
)
DIED = Happening(
    time=NOW - 0.5 * HOUR,
    kind="process died",
    stage="tickets",
    task=1,
    executor="host:1",
    message="killed by SIGKILL: its log is empty",
    lost_images=960,
    lost_seconds=120.0,
)
FAILED = Happening(
    time=NOW - 0.4 * HOUR,
    kind="stage failed",
    stage="tickets",
    message="executor lost",
    lost_images=320,
    lost_seconds=40.0,
)
AGAIN = Happening(time=NOW - 0.3 * HOUR, kind="stage began", stage="tickets", tasks=1, slots=1, trainings=8)


def look(**fields):
    """A sweep of the small experiment in its tickets' stage, on two executors."""
    whose = Origin(experiment(*fields.pop("overrides", ())), "0" * 64, 160)
    ended = [result(Ticket(0, 0)), result(Ticket(0, 5), status="diverged", note="the loss is nan at step 7", top1=None)]
    known = {
        "run": "runs/digits-0123",
        "now": NOW,
        "origin": whose,
        "replicates": [ReplicateLook(None, dense(), {each.ticket: each for each in ended})],
        "heartbeats": [beat(0, "00-000010-s0", "00-000000-reinit-s0"), beat(1, "01-000000-s0", waiting=0)],
        "history": (*BEGUN, DIED),
        "claim": claim(),
        "alive": True,
    }
    return Look(**{**known, **fields})


def write(run, made):
    """Lays a look's parts down in a run directory."""
    for replicate in made.replicates:
        if replicate.dense is not None:
            run.write_dense_result(replicate.dense)
        for each in replicate.results.values():
            run.write_result(each)
    for heartbeat in made.heartbeats:
        run.heartbeats.write(heartbeat)
    for row in made.history:
        fields = {name: value for name, value in msgspec.to_builtins(row).items() if name not in ("time", "kind")}
        run.history._clock = lambda row=row: row.time
        run.history.add(row.kind, **fields)
