"""What is not going as it should in a gang, and which key to change. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lottery.experiment.config import Experiment
from lottery.run.heartbeats import BEAT_EVERY, Activity, Heartbeat

_LONG = 60.0  # seconds that a share has to be bad
_INPUT_WAIT = 0.1  # share of the time
_IDLE = 10.0  # percent of the time that a GPU is at work, below which it is idle
_LEAST_SILENCE = 3 * BEAT_EVERY  # seconds: heartbeats come that often only


class Stalls:
    """Watches a gang's heartbeats. Each stall is told once, and again only if it comes back after it had gone.

    A task stalls that makes no progress for a tenth of gang.hang_after. Waiting for input, and idle devices, count
    after a minute, and for the gang as a whole: its tasks have the same recipe.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._beats: dict[int, tuple[float, float]] = {}  # by task: its heartbeat's time, and when that was first seen
        self._silent: set[int] = set()
        self._waits, self._idles = _Condition(), _Condition()

    def look(self, heartbeats: Sequence[Heartbeat], now: float) -> list[str]:
        """What there is to warn of since the last look; `now` is in seconds of any clock."""
        found = [warning for beat in heartbeats if (warning := self._silence(beat, now))]
        at_work = [beat for beat in heartbeats if beat.activity is not None]
        if slow := self._waits.starts(at_work, _waits_for_input, now):
            found.append(self._input_warning(slow))
        if idle := self._idles.starts(at_work, _is_idle, now):
            found.append(self._idle_warning(idle))
        return found

    def _silence(self, beat: Heartbeat, now: float) -> str | None:
        last, since = self._beats.get(beat.task, (None, now))
        if beat.time != last or beat.ended or beat.done >= beat.trainings > 0:
            self._beats[beat.task] = beat.time, now
            self._silent.discard(beat.task)
            return None
        hang_after = self._experiment.gang.hang_after
        if now - since < max(hang_after / 10, _LEAST_SILENCE) or beat.task in self._silent:
            return None
        self._silent.add(beat.task)
        return (
            f"task {beat.task} on {beat.executor} has made no progress for {now - since:.0f} s; its process is "
            f"restarted after {hang_after:g} s: if its steps take this long, raise gang.hang_after"
        )

    def _input_warning(self, beats: Sequence[Heartbeat]) -> str:
        share = max(beat.activity.input_wait for beat in beats if beat.activity)
        remedy = "raise input.threads, and with it the cores of a task (spark.task.cpus)"
        if self._experiment.data.augment == "host":
            remedy += ", or set data.augment: device"
        return f"{_named(beats)} waited for input {share:.0%} of the last minute; {remedy}"

    def _idle_warning(self, beats: Sequence[Heartbeat]) -> str:
        use = min(_use(beat.activity) for beat in beats if beat.activity)
        remedy = "raise data.batch" if self._experiment.gang.bundle == "auto" else "raise gang.bundle, or data.batch"
        return f"{_named(beats)} used the GPU {use:.0f}% of the last minute; {remedy}"


class _Condition:
    """Something that tasks may suffer from: told when the first has done so for a minute, until none does any more."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}
        self._told = False

    def starts(self, beats: Sequence[Heartbeat], suffers: Callable[[Activity], bool], now: float) -> list[Heartbeat]:
        """The tasks that suffer from it if it is to be told now, else none."""
        ill = {beat.task for beat in beats if beat.activity and suffers(beat.activity)}
        self._since = {task: self._since.get(task, now) for task in ill}
        if not ill:
            self._told = False
        long = [beat for beat in beats if beat.task in ill and now - self._since[beat.task] >= _LONG]
        if not long or self._told:
            return []
        self._told = True
        return long


def _waits_for_input(activity: Activity) -> bool:
    return activity.input_wait > _INPUT_WAIT


def _is_idle(activity: Activity) -> bool:
    """Whether a GPU does next to nothing, for a reason that no other warning names."""
    others = activity.evaluation + activity.checkpoint_wait
    return (
        activity.gpu_percent is not None and _use(activity) < _IDLE and others < 0.5 and not _waits_for_input(activity)
    )


def _use(activity: Activity) -> float:
    return activity.gpu_percent if activity.gpu_percent is not None else 100.0


def _named(beats: Sequence[Heartbeat]) -> str:
    if len(beats) == 1:
        return f"task {beats[0].task} on {beats[0].executor}"
    return f"tasks {', '.join(str(beat.task) for beat in beats)}"
