"""A look at a run directory -> a snapshot of the sweep. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from lottery.run.heartbeats import Heartbeat
from lottery.run.run_directory import DENSE
from lottery.run.search_state import search_state
from lottery.status import estimate, schema
from lottery.status.reader import Look, ReplicateLook
from lottery.tickets.tickets import all_tickets

_FAULTS = ("process died", "stage failed")
_WARNINGS = 20


def snapshot(look: Look, price_per_hour: float | None = None) -> schema.Snapshot:
    """What a person wants to know of a sweep.

    Args:
        price_per_hour: of one executor, in whatever currency.
    """
    state, beats = _state(look), _at_work(look)
    last_sign = _last_sign(look)
    seconds = estimate.seconds_left(look) if state == "running" else 0.0 if state == "done" else None
    until = look.now if state == "running" else last_sign
    hours = estimate.executor_seconds(look.history, until) / 3600
    held = estimate.executors(look.history) if state == "running" else 0
    hours_left = None if seconds is None else seconds * held / 3600
    replicates = tuple(_replicate(look, each, beats) for each in look.replicates)
    faults = tuple(_faults(look))
    return schema.Snapshot(
        run=look.run,
        time=look.now,
        state=state,
        holder="" if look.claim is None else f"process {look.claim.process} on {look.claim.host}",
        stage=estimate.stage(look.history) if state == "running" else "",
        last_sign=last_sign,
        ended=_ended(look),
        dense=tuple(_dense(each, beats) for each in look.replicates),
        trainings=_total([each.trainings for each in replicates]),
        replicates=replicates,
        problems=tuple(_problems(look)),
        tasks=tuple(_task(look, heartbeat) for heartbeat in beats),
        images_per_s=sum(heartbeat.activity.images_per_s for heartbeat in beats if heartbeat.activity),
        executors=held,
        executor_hours=hours,
        executor_hours_left=hours_left,
        seconds_left=seconds,
        expected_end=look.now + seconds if state == "running" and seconds is not None else None,
        faults=faults,
        lost_images=sum(fault.lost_images for fault in faults),
        lost_seconds=sum(fault.lost_seconds for fault in faults),
        warnings=tuple(_warnings(look)),
        cost=None if price_per_hour is None else _cost(price_per_hour, hours, hours_left),
    )


def _state(look: Look) -> schema.State:
    if look.alive:
        return "running"
    if _is_done(look):
        return "done"
    return "stopped" if look.claim is None else "dead"


def _is_done(look: Look) -> bool:
    experiment, line = look.origin.experiment, look.origin.timeline
    tickets = all_tickets(experiment, line)
    if experiment.search == "frontier":
        found = [(each.dense, each.results.values()) for each in look.replicates]
        state = search_state(experiment, line.trellis, found)
        return state.is_over(tickets, [each.results for each in look.replicates])
    return all(each.dense is not None and len(each.results) >= len(tickets) for each in look.replicates)


def _last_sign(look: Look) -> float | None:
    signs = [heartbeat.time for heartbeat in look.heartbeats] + [row.time for row in look.history]
    if look.claim is not None:
        signs.append(look.claim.heartbeat)
    return max((sign for sign in signs if sign), default=None)


def _at_work(look: Look) -> list[Heartbeat]:
    """The heartbeats of tasks that are at work: those that a sweep left behind, or its stage before, are not."""
    return list(look.heartbeats) if look.alive and estimate.stage(look.history) in ("dense run", "tickets") else []


def _ended(look: Look) -> str:
    last = next((row for row in reversed(look.history) if row.kind in ("sweep began", "sweep ended")), None)
    return last.message if last is not None and last.kind == "sweep ended" and not look.alive else ""


def _dense(replicate: ReplicateLook, beats: Sequence[Heartbeat]) -> schema.Dense:
    if replicate.dense is None:
        training = any(
            each.activity and DENSE in each.activity.trainings and each.seed == replicate.seed for each in beats
        )
        return schema.Dense(seed=replicate.seed, status="training" if training else "left", top1=None, note="")
    dense = replicate.dense
    return schema.Dense(seed=replicate.seed, status=dense.status, top1=dense.top1, note=dense.note)


def _replicate(look: Look, replicate: ReplicateLook, beats: Sequence[Heartbeat]) -> schema.Replicate:
    total = len(all_tickets(look.origin.experiment, look.origin.timeline))
    ended = [result.status for result in replicate.results.values()]
    training = {
        name
        for each in beats
        if each.activity and each.seed == replicate.seed
        for name in each.activity.trainings
        if name != DENSE
    }
    unfinished = training - {ticket.name for ticket in replicate.results}
    return schema.Replicate(
        seed=replicate.seed,
        trainings=schema.Trainings(
            total=total,
            done=len(ended),
            diverged=ended.count("diverged"),
            failed=ended.count("failed"),
            training=len(unfinished),
            left=total - len(ended),
        ),
    )


def _total(parts: Sequence[schema.Trainings]) -> schema.Trainings:
    return schema.Trainings(
        total=sum(part.total for part in parts),
        done=sum(part.done for part in parts),
        diverged=sum(part.diverged for part in parts),
        failed=sum(part.failed for part in parts),
        training=sum(part.training for part in parts),
        left=sum(part.left for part in parts),
    )


def _problems(look: Look) -> list[schema.Problem]:
    return [
        schema.Problem(seed=replicate.seed, ticket=ticket.name, status=result.status, note=result.note)
        for replicate in look.replicates
        for status in ("diverged", "failed")
        for ticket, result in sorted(replicate.results.items())
        if result.status == status
    ]


def _task(look: Look, beat: Heartbeat) -> schema.Task:
    now = beat.activity
    return schema.Task(
        task=beat.task,
        executor=beat.executor,
        seed=beat.seed,
        trainings=now.trainings if now else (),
        done=beat.done,
        total=beat.trainings,
        step=now.step if now else None,
        steps=now.total if now else None,
        epoch=round(look.origin.timeline.epoch(now.step), 2) if now else None,
        images_per_s=now.images_per_s if now else None,
        loss=now.loss if now else None,
        top1=now.top1 if now else None,
        input_wait=now.input_wait if now else None,
        device_wait=now.device_wait if now else None,
        checkpoint_wait=now.checkpoint_wait if now else None,
        evaluation=now.evaluation if now else None,
        cpu_percent=now.cpu_percent if now else None,
        memory_mib=now.memory_mib if now else None,
        gpus=beat.gpus,
        gpu_percent=now.gpu_percent if now else None,
        gpu_memory_mib=now.gpu_memory_mib if now else None,
        gpu_watts=now.gpu_watts if now else None,
        gpu_mhz=now.gpu_mhz if now else None,
        gpus_lost=now.gpus_lost if now else 0,
        deaths=beat.deaths,
        silent=max(0.0, look.now - beat.time) if beat.time else None,
        seconds_left=estimate.task_seconds_left(beat),
    )


def _faults(look: Look) -> list[schema.Fault]:
    return [
        schema.Fault(
            time=row.time,
            kind=row.kind,
            stage=row.stage,
            task=row.task,
            executor=row.executor,
            message=row.message,
            lost_images=row.lost_images,
            lost_seconds=row.lost_seconds,
        )
        for row in look.history
        if row.kind in _FAULTS
    ]


def _warnings(look: Look) -> list[schema.Warned]:
    """The latest warnings of the sweep at work, or of the last one."""
    began = max((row.time for row in look.history if row.kind == "sweep began"), default=0.0)
    rows = [row for row in look.history if row.kind == "warning" and row.time >= began]
    return [schema.Warned(time=row.time, message=row.message) for row in rows[-_WARNINGS:]]


def _cost(price: float, hours: float, left: float | None) -> schema.Cost:
    return schema.Cost(price_per_hour=price, spent=hours * price, to_come=None if left is None else left * price)
