"""What a report says in words and single numbers: how far the sweep is, the gang's speedup, where it all comes from."""

from __future__ import annotations

from dataclasses import dataclass

from lottery.report.record.spans import Speedup, speedup
from lottery.report.record.sweep_record import SweepRecord
from lottery.run.provenance import Provenance

# What the study behind this suite claims for 20 workers.
STUDY_SPEEDUP, STUDY_EFFICIENCY, STUDY_TASKS = 20, 1, 20

Facts = list[tuple[str, str]]


@dataclass(frozen=True)
class Work:
    """What the sweep took so far."""

    executor_seconds: float  # of all executors together
    wall_seconds: float  # while at least one was at work, and in short gaps
    tickets: Speedup | None  # of the stages that train tickets


def work(record: SweepRecord) -> Work:
    """What telemetry tells of it. Executors that train together count one by one."""
    together = record.origin.experiment.gang.executors_per_ticket
    dense = {seed: result.executors for seed, result in record.dense.items()}
    total = sum(span.seconds * (dense.get(span.replicate, 1) if span.is_dense else together) for span in record.spans)
    tickets = speedup([span for span in record.spans if not span.is_dense])
    return Work(total, record.clock.total, tickets)


def state(record: SweepRecord) -> str:
    """How far it is, in a sentence."""
    done, of = record.trainings
    bad = [f"{count} {status}" for status in ("failed", "diverged") if (count := _count(record, status))]
    ended = f"; {' and '.join(bad)}" if bad else ""
    if record.search_over is not None:
        over = "over" if record.search_over else "not over"
        return f"The search is {over}: {done:,} of the grid's {of:,} trainings have ended{ended}."
    if record.finished:
        return f"Finished: all {of:,} trainings have ended{ended}."
    return f"Not finished: {done:,} of {of:,} trainings have ended{ended}."


def gang_facts(record: SweepRecord, price: float | None = None) -> Facts:
    """The gang's speed and cost. `price` is of one executor per hour."""
    found = work(record)
    if not record.spans:
        return [("Telemetry", "none was kept")]
    facts = [
        ("At work", length(found.wall_seconds)),
        ("Executors' time", f"{found.executor_seconds / 3600:,.2f} hours"),
    ]
    if price is not None:
        facts.append(("Cost", f"{price * found.executor_seconds / 3600:,.2f} at {price:g} per executor and hour"))
    facts += _speedup_facts(found.tickets)
    rates = [(row.get("images_per_s", 0.0), row["seconds"]) for row in record.telemetry]
    seconds = sum(weight for _, weight in rates)
    if seconds:
        mean = sum(rate * weight for rate, weight in rates) / seconds
        facts.append(("Images per second", f"{mean:,.0f} per task, each image counted once for every training"))
    return facts


def _speedup_facts(found: Speedup | None) -> Facts:
    if found is None:
        return []
    study = f"the study: S = {STUDY_SPEEDUP}, E = {STUDY_EFFICIENCY} with {STUDY_TASKS} workers"
    measured = f"S = {found.speedup:.2f}, E = {found.efficiency:.2f} with {found.tasks} task{'s' * (found.tasks > 1)}"
    how = f"{length(found.busy)} of work in {length(found.wall)}, for the tickets and controls"
    return [("Speedup and efficiency", f"{measured} ({how}); {study}")]


def origin_facts(record: SweepRecord) -> Facts:
    """Where the results come from; what earlier versions did not record is left out."""
    origin, experiment = record.origin, record.origin.experiment
    submission = record.submission
    facts = [
        ("Experiment", f"{experiment.name}, identity {origin.identity}"),
        ("Run directory", record.place),
        ("Dataset", submission.data if submission else "place not recorded"),
        ("Dataset's hash", origin.dataset_hash),
        ("Training images", f"{origin.train_images:,}"),
    ]
    facts += [(f"Dense run{_of_seeds(record, seeds)}", _software(made)) for made, seeds in _provenances(record).items()]
    if submission is not None:
        software = f"Spark {submission.spark}, Python {submission.python}"
        facts.append(("Driver", f"lottery-trellis {submission.code}; {software}"))
    executors = sorted({result.executor for result in record.pooled if result.executor})
    if executors:
        facts.append(("Executors", ", ".join(executors[:20]) + (" ..." if len(executors) > 20 else "")))
    return facts


def _provenances(record: SweepRecord) -> dict[Provenance, list[int]]:
    """The replicates' seeds by what trained their dense run."""
    found: dict[Provenance, list[int]] = {}
    for each in record.replicates:
        if each.provenance is not None:
            found.setdefault(each.provenance, []).append(each.seed)
    return found


def _software(made: Provenance) -> str:
    on = f" on {made.hardware}" if made.hardware else ""
    return f"TensorFlow {made.tensorflow}, Keras {made.keras}, Python {made.python}{on}; model fingerprint {made.model}"


def _of_seeds(record: SweepRecord, seeds: list[int]) -> str:
    return f" of seeds {', '.join(map(str, seeds))}" if len(record.replicates) > 1 else ""


def _count(record: SweepRecord, status: str) -> int:
    return sum(result.status == status for result in record.pooled)


def length(seconds: float) -> str:
    """A length of time, for people."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.1f} s"
