"""One contender of `benchmarks.feed`, measured in this process."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import psutil

from benchmarks.environment import ROOT
from lottery.driver.prepare import prepare
from lottery.experiment.steps import Timeline, segments
from lottery.tickets import masks
from preprocessing.common.program import run_or_explain

_SMALL = ("data.batch=16", "data.crop=64", "training.precision=float32")  # of a machine without GPUs
_WARM_UP_RUNS = 3  # of each ticket, which trace, start processes and fill what is read ahead
_STEPS = 10**6  # of a training that is never finished
_DENSITIES = (0.4, 0.2, 0.1, 0.05, 0.02)


class Side(NamedTuple):
    """A side of the ratio in one round: trained images a second, and CPU-seconds of all processes for a step."""

    per_second: float
    cpu: float


class _Enough(Exception):  # noqa: N818 - the end of a measurement
    pass


class _OneBatch:
    """Stands for `TrainingInput`: one run of batches, augmented and on the device, over and over."""

    def __init__(self, images: Any, labels: Any, steps: int) -> None:
        self._images, self._labels = images, labels
        self.longest_run = steps

    def stream(self, runs: Any) -> Iterator[tuple[Any, Any]]:
        """The same element for every run."""
        for _ in runs:
            yield self._images, self._labels

    def augment(self, images: Any, first: int, last: int) -> Any:
        """The images as they are."""
        return images


class Bench:
    """A recipe's model, input and tickets."""

    def __init__(self, request: dict[str, Any]) -> None:
        import tensorflow as tf

        from lottery.input import training_steps
        from lottery.input.training_batches import TrainingInput
        from lottery.training.trainer import Trainer
        from lottery.worker import devices
        from lottery.worker.position import WorkerPosition

        self.gpus = len(tf.config.list_physical_devices("GPU"))
        cores = len(os.sched_getaffinity(0))
        experiment, dataset = _recipe(request, bool(self.gpus))
        devices.configure(cores, experiment.training.deterministic)
        side = experiment.data.crop or dataset.size
        strategy = devices.strategy(WorkerPosition())
        classes = len(dataset.class_names)
        self._trainer = Trainer(experiment, (side, side, 3), classes, dataset.mean, dataset.std, strategy)
        self._rate, self.batch = experiment.training.learning_rate, experiment.data.batch
        training_steps._RUN_STEPS = 1  # as it is with the recipes' batches, also with smaller ones
        self._source = TrainingInput(dataset, experiment.data, experiment.seed, experiment.input)
        first = self._trainer.first_state(experiment.seed)
        kernels = {path: first[path] for path in self._trainer.kernels}
        made = masks.global_magnitude_masks(kernels, _DENSITIES[: request["tickets"]])
        self._starts = [({path: value * mask.get(path, 1) for path, value in first.items()}, mask) for mask in made]

    def fed(self, seconds: float) -> Side:
        """Training on the dataset."""
        return self._train(self._source, seconds)

    def one_batch(self, seconds: float) -> Side:
        """Training on the same images over and over."""
        steps = self._source.longest_run
        images, labels = next(self._source.stream([(0, steps)]))
        images = self._source.augment(self._trainer.to_device(images), 0, steps)
        return self._train(_OneBatch(images, labels, steps), seconds)

    def input_cpu(self, seconds: float) -> float:
        """CPU-seconds of all processes to assemble an image, without any training."""
        steps = self._source.longest_run
        stream = self._source.stream(segments(0, _STEPS, frozenset(), steps))
        for _ in itertools.islice(stream, 8):  # what was read ahead while processes started
            pass
        started, cpu, images = time.perf_counter(), _cpu_seconds(), 0
        for _, labels in stream:
            images += int(labels.shape[0] * labels.shape[1])
            if time.perf_counter() - started > seconds:
                break
        return (_cpu_seconds() - cpu) / images

    def _train(self, source: Any, seconds: float) -> Side:
        from lottery.worker import training_loop
        from lottery.worker.member import Member
        from lottery.worker.telemetry import Telemetry

        members = [Member(None, mask, state) for state, mask in self._starts]
        warm_up, calls, images = _WARM_UP_RUNS * len(members), 0, 0
        started = cpu = 0.0
        found: list[Side] = []

        def progress(count: int) -> None:
            nonlocal calls, images, started, cpu
            calls += 1
            if calls == warm_up:
                started, cpu = time.perf_counter(), _cpu_seconds()
            elif calls > warm_up:
                images += count
                past = time.perf_counter() - started
                if past > seconds and calls % len(members) == 0:
                    used = (_cpu_seconds() - cpu) * self.batch / images
                    found.append(Side(images / past, used))
                    raise _Enough

        timeline = Timeline(_STEPS, _STEPS, (0,), frozenset())
        try:
            training_loop.train(
                self._trainer,
                members,
                source,
                timeline,
                self._rate,
                frozenset(),
                lambda paused: None,
                progress,
                Telemetry(),
            )
        except _Enough:
            return found[0]
        raise RuntimeError("a ticket diverged")


def _recipe(request: dict[str, Any], gpus: bool) -> tuple[Any, Any]:
    """The experiment and the dataset. Raises InputError if they do not fit together."""
    overrides = [f"training.length={_STEPS}", "trellis=[0]", "data.select=null", *([] if gpus else _SMALL)]
    # Rates of the recipe would make a ticket diverge that begins at its full rate.
    overrides.append("training.learning_rate={peak: 1e-4}")
    overrides += [f"data.{key}={request[key]}" for key in ("batch", "crop") if request[key]]
    overrides += request["overrides"]
    path = str(ROOT / "conf" / f"imagenet-{request['recipe']}.yaml")
    with tempfile.TemporaryDirectory() as runs:
        made = prepare(path, request["dataset"], runs, overrides)
    return made.experiment, made.dataset


class GpuWatch:
    """Samples the use and power of this process's GPUs until it is asked for their means."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        if shutil.which("nvidia-smi"):
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            asked = ["--query-gpu=index,utilization.gpu,power.draw", "--format=csv,noheader,nounits", "--loop-ms=500"]
            only = [f"--id={visible}"] if visible else []
            self._process = subprocess.Popen(["nvidia-smi", *only, *asked], stdout=subprocess.PIPE, text=True)

    def means(self) -> dict[str, float]:
        """`gpu_percent`, the mean over samples and GPUs, and `gpu_watts`, of all GPUs together."""
        if self._process is None:
            return {}
        self._process.terminate()
        said, _ = self._process.communicate()
        return gpu_means(said)


def gpu_means(said: str) -> dict[str, float]:
    """The means over nvidia-smi's lines of `index, percent, watts`, the last of which may be cut off."""
    rows = []
    for line in said.splitlines():
        fields = [field.strip() for field in line.split(",")]
        try:
            rows.append((fields[0], float(fields[1]), float(fields[2])))
        except (IndexError, ValueError):
            continue
    if not rows:
        return {}
    gpus = len({index for index, _, _ in rows})
    percent, watts = (statistics.mean(row[column] for row in rows) for column in (1, 2))
    return {"gpu_percent": round(percent, 1), "gpu_watts": round(gpus * watts, 1)}


def _cpu_seconds() -> float:
    """CPU-seconds that this process and those that assemble batches have used so far."""
    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            if process.name() != "nvidia-smi":
                times = process.cpu_times()
                total += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return total


def measure(bench: Bench, tickets: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Medians over the rounds; in each, the two sides follow each other at once."""
    bench.one_batch(0.0)  # traces the step
    bench.fed(0.0)
    sides: list[tuple[Side, Side]] = []
    gpus: list[dict[str, float]] = []
    for _ in range(rounds):
        watch = GpuWatch() if bench.gpus else None
        fed = bench.fed(seconds)
        gpus += [watch.means()] if watch else []
        sides.append((fed, bench.one_batch(seconds)))
    median: Callable[[Any], float] = statistics.median
    return {
        "tickets": tickets,
        "batch": bench.batch,
        "gpus": bench.gpus,
        "per_second": round(median(fed.per_second for fed, _ in sides), 1),
        "one_batch_per_second": round(median(same.per_second for _, same in sides), 1),
        "ratio": round(median(fed.per_second / same.per_second for fed, same in sides), 3),
        "cpu_ms": round(1000 * median(fed.cpu for fed, _ in sides), 2),
        "one_batch_cpu_ms": round(1000 * median(same.cpu for _, same in sides), 2),
        "input_cpu_us": round(1e6 * median(bench.input_cpu(seconds) for _ in range(rounds)), 2),
        **{key: round(median(found[key] for found in gpus), 1) for key in (gpus[0] if gpus else ())},
    }


def main() -> int:
    """Measures what the request, JSON in the first argument, names."""
    request = json.loads(sys.argv[1])
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    found = measure(Bench(request), request["tickets"], request["seconds"], request["rounds"])
    print(json.dumps(found), flush=True)
    os._exit(0)  # without the threads' long way out


if __name__ == "__main__":
    run_or_explain(main)
