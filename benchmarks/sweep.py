"""What a gang costs: a sweep on one task against one on two, each task with a core of its own.

`python -m benchmarks.sweep` prints a table and, last, one JSON line. It makes its own data, the demo's digits, and
runs spark-submit on a real standalone master and two workers on loopback, each bound to a core. Driver, master and all
else may use both cores: what they take from the tasks counts against the gang. A single task runs on one core in even
rounds and on the other in odd rounds, because a machine's cores need not be equally fast.

The dense run is trained once, beforehand, for both. T(n) is the wall time of the gang's stage with n tasks, from the
driver's line that announces it to its last line of progress. F(n) is the same for a sweep whose trainings have one step
each: Spark's stage, the child's start, TensorFlow's import, tracing, and a checkpoint and a result each.

    efficiency          (T(1) - F(1)) / (2 x (T(2) - F(2))): the trainings alone, as in a sweep of hours
    efficiency_stage    T(1) / (2 x T(2)): the stage, with its start
    efficiency_command  the same for the whole command, from spark-submit to its end
    efficiency_machine  `efficiency` for the same child processes on the same cores without Spark, in the same rounds:
                        what the machine allows. Two processors that are threads of one core may allow only 0.6
    gang                efficiency / efficiency_machine: what Spark, driver and supervision leave of that
    fixed_s             F(2)
    before_s, after_s   the command before the stage (JVM, executors, preflight) and after it (report, Spark's end)
    driver_cpu_s        processor time of the driver (JVM and Python) over the whole command, with two tasks
    driver_share        processor time of the driver during the stage, as a share of one core
    executor_share      the same for each executor, without its children that train
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.environment import ROOT, activate, run
from demo.digits import write_digits
from lottery.driver.prepare import prepare
from lottery.executor.child_environment import child_environment
from lottery.protocol import Instructions, TaskPlacement
from lottery.tickets.scheduling import schedule
from preprocessing.common.errors import InputError
from preprocessing.common.program import run_or_explain
from tests.cluster.standalone import Cluster

TARGETS = {"efficiency": ">= 0.95", "fixed_s": "<= 15"}
_EXPERIMENT = "conf/digits.yaml"
_LEVELS = "masks.densities=[.40, .30, .20, .15, .10, .05]"  # of equal cost, so that two tasks have the same to do
_LENGTH = "training.length=30ep"
_ONE_STEP = ("training.length=1", "training.learning_rate={peak: 0.03}", "trellis=[0]")
_CLUSTER = ("gang.check_gpus=false",)  # the GPUs are stubs
_SAMPLE_EVERY = 0.5  # seconds


class Run(NamedTuple):
    """One command, in seconds: of wall time, and of processor time by who used it."""

    before: float
    stage: float
    after: float
    driver: float  # of the whole command
    driver_in_stage: float
    executors_in_stage: float

    @property
    def whole(self) -> float:
        """Wall time of it all."""
        return self.before + self.stage + self.after


def main() -> int:
    """Makes the data, measures, prints."""
    parser = argparse.ArgumentParser("python -m benchmarks.sweep", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=4, help="rounds; the median counts (default 4)")
    rounds = parser.parse_args().rounds
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise InputError("this benchmark needs two cores, but the machine or its affinity mask has one; allow it two")
    activate()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = _digits(folder)
        sweeps = {"work": (_LEVELS, _LENGTH), "nothing": (_LEVELS, *_ONE_STEP)}
        dense = {name: _dense(folder / name, data, settings) for name, settings in sweeps.items()}
        cluster = Cluster(_made(folder / "cluster"), workers=2)
        runs: dict[tuple[str, int], list[Run]] = defaultdict(list)
        bare: dict[tuple[str, int], list[float]] = defaultdict(list)
        try:
            for number in range(rounds):
                for tasks in (1, 2) if number // 2 % 2 else (2, 1):
                    used = cores if tasks == 2 else [cores[number % 2]] * 2
                    cluster.pin(used)
                    for name, settings in sweeps.items():
                        made = [shutil.copytree(dense[name], folder / f"{name}{tasks}{number}{of}") for of in "ab"]
                        bare[name, tasks].append(_bare(data, made[0], settings, used[:tasks]))
                        measured = _measure(cluster, data, made[1], (*settings, f"gang.tasks={tasks}"))
                        said = f"bare {bare[name, tasks][-1]:.2f}, {_words(measured)}"
                        print(f"round {number}, {tasks} tasks, {name}: {said}", file=sys.stderr, flush=True)
                        runs[name, tasks].append(measured)
        finally:
            cluster.stop()
    _publish(runs, bare, rounds)
    return 0


def _publish(runs: dict[tuple[str, int], list[Run]], bare: dict[tuple[str, int], list[float]], rounds: int) -> None:
    """The table and the JSON line."""
    alone = {key: statistics.median(seconds) for key, seconds in bare.items()}
    median = {key: Run(*map(statistics.median, zip(*found, strict=True))) for key, found in runs.items()}
    one, two = median["work", 1], median["work", 2]
    fixed = {tasks: median["nothing", tasks].stage for tasks in (1, 2)}
    efficiency = (one.stage - fixed[1]) / (2 * (two.stage - fixed[2]))
    machine = (alone["work", 1] - alone["nothing", 1]) / (2 * (alone["work", 2] - alone["nothing", 2]))
    ratios = {
        "efficiency": efficiency,
        "efficiency_stage": one.stage / (2 * two.stage),
        "efficiency_command": one.whole / (2 * two.whole),
        "efficiency_machine": machine,
        "gang": efficiency / machine,
    }
    figures = {
        "fixed_s": fixed[2],
        "one_task_s": one.stage,
        "two_tasks_s": two.stage,
        "speed_up": 2 * efficiency,
        "before_s": two.before,
        "after_s": two.after,
        "driver_cpu_s": two.driver,
        "driver_share": two.driver_in_stage / two.stage,
        "executor_share": two.executors_in_stage / two.stage / 2,
    }
    for name, value in {**ratios, **figures}.items():
        target = f"   target {TARGETS[name]}" if name in TARGETS else ""
        print(f"{name:20}{value:9.3f}{target}")
    rounded = [{name: round(value, 3) for name, value in part.items()} for part in (ratios, figures)]
    print(json.dumps({"rounds": rounds, "ratios": rounded[0], **rounded[1]}), flush=True)


def _measure(cluster: Cluster, data: Path, runs: Path, settings: Sequence[str]) -> Run:
    """Runs a sweep to its end."""
    started = time.perf_counter()
    job = subprocess.Popen(
        ["spark-submit", *cluster.submit_options(), *_arguments(data, runs, settings)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert job.stdout is not None
    log, times = [], {}
    watch = _Watch(cluster, job.pid)
    for line in job.stdout:
        log.append(line)
        if line.startswith("gang: "):
            times["begin"] = time.perf_counter()
            watch.start()
        elif line.startswith("tickets: "):
            times["end"] = time.perf_counter()
            watch.lap()
    watch.stop()
    _, status, usage = os.wait4(job.pid, 0)  # of the JVM and of the Python that it waited for
    job.returncode = os.waitstatus_to_exitcode(status)
    if job.returncode or len(times) < 2:
        raise RuntimeError(f"spark-submit ended with exit status {job.returncode}:\n{''.join(log)}")
    ended = time.perf_counter()
    return Run(
        times["begin"] - started,
        times["end"] - times["begin"],
        ended - times["end"],
        usage.ru_utime + usage.ru_stime,
        *watch.seconds(),
    )


def _bare(data: Path, runs: Path, settings: Sequence[str], cores: Sequence[int]) -> float:
    """Seconds of the same trainings in a child process on each of these cores, without Spark."""
    sweep = prepare(str(ROOT / _EXPERIMENT), str(data), str(runs), settings)
    lists = schedule(sweep.left(), len(cores), sweep.cost).tasks
    started = time.perf_counter()
    children = []
    for core, tickets in zip(cores, lists, strict=True):
        command = ["taskset", "--cpu-list", str(core), sys.executable, "-m", "lottery.worker"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        child = subprocess.Popen(command, cwd=ROOT, env=child_environment((), 1), **pipes)
        children.append(child)
        assert child.stdin is not None
        child.stdin.write(Instructions(sweep.assignment(tickets), TaskPlacement()).encode())
        child.stdin.close()
    statuses = [child.wait() for child in children]
    if any(statuses):
        raise RuntimeError("a child without Spark failed")
    return time.perf_counter() - started


class _Watch:
    """Processor time from `start` to the last `lap`: of a driver, and of executors without children that train."""

    def __init__(self, cluster: Cluster, driver: int) -> None:
        self._cluster, self._driver = cluster, driver
        self._used: dict[tuple[str, int], list[float]] = {}
        self._lap: dict[tuple[str, int], list[float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def start(self) -> None:
        self._look()
        self._thread.start()

    def lap(self) -> None:
        self._look()
        self._lap = {key: list(span) for key, span in self._used.items()}

    def stop(self) -> None:
        self._ended.set()

    def seconds(self) -> tuple[float, float]:
        """Of the driver, and of all executors together."""
        spent = {"driver": 0.0, "executor": 0.0}
        for (kind, _), (first, last) in self._lap.items():
            spent[kind] += last - first
        return spent["driver"], spent["executor"]

    def _sample(self) -> None:
        while not self._ended.wait(_SAMPLE_EVERY):
            self._look()

    def _look(self) -> None:
        with contextlib.suppress(psutil.Error):
            driver = psutil.Process(self._driver)
            for process in (driver, *driver.children(recursive=True)):
                self._note("driver", process)
            for executor in self._cluster.executors():
                for process in (executor, *executor.children(recursive=True)):
                    self._note("executor", process)

    def _note(self, kind: str, process: psutil.Process) -> None:
        with contextlib.suppress(psutil.Error):
            if "lottery.worker" in process.cmdline():
                return
            times = process.cpu_times()
            span = self._used.setdefault((kind, process.pid), [times.user + times.system] * 2)
            span[1] = times.user + times.system


def _digits(folder: Path) -> Path:
    write_digits(folder / "images")
    job = ["spark-submit", "--properties-file", "conf/spark/local.conf", "jobs/preprocess.py", "--size", "8"]
    places = ["--source", str(folder / "images"), "--output", str(folder / "data")]
    run([*job, *places])
    return folder / "data"


def _dense(runs: Path, data: Path, settings: Sequence[str]) -> Path:
    """A runs folder with the sweep's dense run done, by a child as a gang task starts it."""
    sweep = prepare(str(ROOT / _EXPERIMENT), str(data), str(runs), settings)
    sweep.bind_run_directory()
    message = Instructions(sweep.assignment(()), TaskPlacement()).encode()
    environment = child_environment((), 1)
    command = [sys.executable, "-m", "lottery.worker"]
    subprocess.run(command, cwd=ROOT, input=message, env=environment, check=True, capture_output=True)
    return runs


def _arguments(data: Path, runs: Path, settings: Sequence[str]) -> list[str]:
    chosen = [word for setting in (*_CLUSTER, *settings) for word in ("--set", setting)]
    places = ["--experiment", _EXPERIMENT, "--data", str(data), "--runs", str(runs)]
    return ["jobs/lottery_sweep.py", *places, *chosen]


def _words(run: Run) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in run._asdict().items())


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    run_or_explain(main)
