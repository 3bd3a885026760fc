"""What masks, XLA, bundles, telemetry, switching tickets, starts and checkpoints cost, in one run.

`python -m benchmarks.training` prints a table and, last, one JSON line. It makes its own data: the demo's digits, and
smooth noise of 256 px as JPEG. Every measurement is a process of its own, bound to one core. Names in brackets are
ratios of two measurements of the same run; names that end in _s are seconds, in _ms milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from benchmarks.environment import ROOT, activate, run
from demo.digits import write_digits
from lottery.driver.prepare import Sweep, prepare
from lottery.protocol import Instructions, Progress, TaskPlacement, decode_event
from lottery.tickets.scheduling import schedule
from lottery.tickets.tickets import Ticket
from preprocessing.common.program import run_or_explain

TARGETS = {
    "[mask]": 1.03,
    "[xla]": 2.0,
    "[bundle]": 0.70,
    "[telemetry]": 1.005,
    "switch_ms": 2.0,
    "digits_s": 60.0,
    "start_s": 12.0,
    "checkpoint_s": 1.0,
    "stall_s": 0.2,
}

# A small model at 224 px, for [bundle]; MobileNetV2 whole, for the rest. 64 images are 4 or 8 steps an epoch.
_LARGE = ("data={batch: 8, crop: 224}", "trellis=[0]", "masks.densities=[0.5, 0.2, 0.1, 0.05, 0.02]", "tickets={}")
_MOBILENET = ("model={name: mobilenet_v2}", "training.length=2", *_LARGE)
_SMALL = ("model={name: mobilenet_v2, options: {alpha: 0.35}}", "training.length=20", *_LARGE)
_RATE = ("training.learning_rate={peak: 0.001}",)


def main() -> int:
    """Makes the data, measures, prints."""
    parser = argparse.ArgumentParser("python -m benchmarks.training", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the short ones; the median counts (default 3)")
    parser.add_argument(
        "--only",
        nargs="*",
        default=list(TARGETS),
        choices=list(TARGETS),
        metavar="NAME",
        help=f"measurements to make: {', '.join(TARGETS)} (default all)",
    )
    arguments = parser.parse_args()
    activate()
    with tempfile.TemporaryDirectory() as scratch:
        bench = _Bench(Path(scratch), arguments.rounds)
        found = {}
        for name in arguments.only:
            found[name] = round(_MEASUREMENTS[name](bench), 3)
            print(f"{name:14} {found[name]:8.3f}   target at most {TARGETS[name]:g}", flush=True)
    print(json.dumps(summary(found, arguments.rounds)))
    return 0


def summary(found: dict[str, float], rounds: int) -> dict[str, Any]:
    """What was found, with the ratios apart from the seconds."""
    ratios = {name.strip("[]"): value for name, value in found.items() if name.startswith("[")}
    return {"rounds": rounds, "ratios": ratios, **{name: found[name] for name in found if not name.startswith("[")}}


class _Bench:
    def __init__(self, folder: Path, rounds: int) -> None:
        self.folder, self.rounds = folder, rounds
        self._runs = 0

    def digits(self) -> Path:
        """The demo's dataset."""
        if not (self.folder / "digits").exists():
            write_digits(self.folder / "digits-images")
            self._preprocess("digits-images", "digits", "--size", "8")
        return self.folder / "digits"

    def photos(self) -> Path:
        """64 + 16 images of smooth noise, as JPEG of 256 px."""
        if not (self.folder / "photos").exists():
            random = np.random.default_rng(0)
            for number in range(80):
                coarse = random.integers(256, size=(16, 16, 3)).astype(np.uint8)
                image = np.ascontiguousarray(coarse.repeat(16, axis=0).repeat(16, axis=1))
                image ^= random.integers(16, size=image.shape).astype(np.uint8)
                split = "train" if number < 64 else "val"
                path = self.folder / "photo-images" / split / f"c{number % 4}" / f"{number}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(simplejpeg.encode_jpeg(image, quality=90))
            self._preprocess("photo-images", "photos", "--size", "256", "--codec", "jpeg")
        return self.folder / "photos"

    def sweep(self, data: Path, *overrides: str) -> Sweep:
        """The digits experiment with overrides, in a run directory of its own."""
        self._runs += 1
        made = prepare(str(ROOT / "conf/digits.yaml"), str(data), str(self.folder / f"runs{self._runs}"), overrides)
        made.bind_run_directory()
        return made

    def child(self, sweep: Sweep, tickets: Sequence[Ticket] = (), first_step: bool = False) -> float:
        """Seconds of a child process from its start to its end, or to its first finished step."""
        started = time.perf_counter()
        child = _start(["-m", "lottery.worker"])
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(Instructions(sweep.assignment(tickets), TaskPlacement()).encode())
        child.stdin.close()
        for line in child.stdout:
            if first_step and isinstance(event := decode_event(line), Progress) and event.images:
                child.kill()
                child.wait()
                return time.perf_counter() - started
        if child.wait():
            raise RuntimeError(f"the child ended with exit status {child.returncode}")
        return time.perf_counter() - started

    def in_process(self, function: str, *arguments: Any) -> float:
        """What a function of this module returns in a process of its own."""
        given = ", ".join(map(repr, arguments))
        child = _start(["-c", f"import benchmarks.training as b; print(b.{function}({given}))"])
        said, _ = child.communicate()
        if child.returncode:
            raise RuntimeError(f"{function} ended with exit status {child.returncode}")
        return float(said.decode().split()[-1])

    def _preprocess(self, source: str, output: str, *options: str) -> None:
        job = ["spark-submit", "--properties-file", "conf/spark/local.conf", "jobs/preprocess.py"]
        places = ["--source", str(self.folder / source), "--output", str(self.folder / output)]
        run([*job, *places, *options])


def _start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """A Python process on one core."""
    core = min(os.sched_getaffinity(0))
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        ["taskset", "--cpu-list", str(core), sys.executable, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def _trained(bench: _Bench, *overrides: str) -> Sweep:
    """A sweep on the photos whose dense run is done."""
    sweep = bench.sweep(bench.photos(), *_RATE, *overrides)
    bench.child(sweep)
    return sweep


def measure_bundle(bench: _Bench) -> float:
    """Five tickets in one process, against five processes one after the other; starting up counts on both sides."""
    together, apart = (_trained(bench, *_SMALL) for _ in range(2))
    (task,) = schedule(together.left(), 1, together.cost).tasks
    whole = bench.child(together, task)
    parts = [bench.child(apart, [ticket]) for ticket in task]
    print(f"[bundle] together {whole:.1f} s, apart {sum(parts):.1f} s", file=sys.stderr)
    return whole / sum(parts)


def measure_digits(bench: _Bench) -> float:
    """All 120 trainings of conf/digits.yaml after its dense run, in one process."""
    sweep = bench.sweep(bench.digits())
    bench.child(sweep)
    return bench.child(sweep, sweep.left())


def measure_start(bench: _Bench) -> float:
    """From the start of the dense run's child to its first finished step, MobileNetV2 at 224 px, in batches of 8."""
    resets = ("training.length=9", "trellis=[0, 1]")  # so that the first run of batches is of one
    sweeps = [bench.sweep(bench.photos(), *_RATE, *_MOBILENET, *resets) for _ in range(bench.rounds)]
    return statistics.median(bench.child(sweep, first_step=True) for sweep in sweeps)


def mask_ratio(folder: str, rounds: int) -> float:
    """A masked step of MobileNetV2 at 224 px in batches of 8 against a step that knows no masks."""
    from lottery.training.trainer import Trainer
    from lottery.worker import devices
    from lottery.worker.position import WorkerPosition

    devices.configure(1, True)
    sweep = _Bench(Path(folder), rounds).sweep(Path(folder) / "photos", *_RATE, *_MOBILENET)
    strategy = devices.strategy(WorkerPosition())
    masked, dense = (
        Trainer(sweep.experiment, (224, 224, 3), 4, sweep.dataset.mean, sweep.dataset.std, strategy) for _ in range(2)
    )
    _unmask(dense)
    images = np.random.default_rng(0).integers(256, size=(1, 8, 224, 224, 3)).astype(np.uint8)
    labels, rates = np.zeros((1, 8), np.int32), np.full(1, 1e-3, np.float32)
    return _step_ratio(masked, dense, 8 * rounds, images, labels, rates)


def xla_ratio(rounds: int) -> float:
    """A step of ResNet-20 at 32 px in batches of 64 that XLA has compiled, against one that it has not."""
    from lottery.experiment.config import Experiment
    from lottery.experiment.sections import SGD, Data, LearningRate, Masks, Model, Training
    from lottery.training.trainer import Trainer
    from lottery.worker import devices
    from lottery.worker.position import WorkerPosition

    devices.configure(1, True)
    strategy, trainers = devices.strategy(WorkerPosition()), []
    for compiler in ("xla", None):
        recipe = Training(2, SGD(momentum=0.9), LearningRate(0.01), compile=compiler)
        experiment = Experiment("xla", Data(batch=64), Model("resnet20"), recipe, (0,), Masks((0.5,)))
        trainers.append(Trainer(experiment, (32, 32, 3), 10, (128.0,) * 3, (64.0,) * 3, strategy))
    images = np.random.default_rng(0).integers(256, size=(1, 64, 32, 32, 3)).astype(np.uint8)
    return _step_ratio(*trainers, 4 * rounds, images, np.zeros((1, 64), np.int32), np.full(1, 1e-3, np.float32))


def _step_ratio(one: Any, other: Any, rounds: int, *run: Any) -> float:
    """The median time of a run of one trainer over that of another, in turns."""
    times: dict[Any, list[float]] = {one: [], other: []}
    for _ in range(rounds + 2):
        for trainer, seconds in times.items():
            started = time.perf_counter()
            trainer.run(*run)
            seconds.append(time.perf_counter() - started)
    return statistics.median(times[one][2:]) / statistics.median(times[other][2:])


def _unmask(trainer: Any) -> None:
    """Takes the mask out of a trainer's step, before that is traced."""
    graph = trainer._graph
    put = graph._put
    graph._mask = graph._replica._mask = 1.0  # TensorFlow drops a product with a constant 1
    graph._put = lambda variable, copies: None if variable is graph._mask else put(variable, copies)


def telemetry_ratio(rounds: int) -> float:
    """CPU time of a training with telemetry over that of one without: ResNet-20 at 32 px, 16 images a run.

    A difference of a thousandth is lost in the noise of two trainings, so telemetry's own CPU time is measured: what a
    run costs in the training's thread, with what a heartbeat and a row cost as often as they come, and the sampling
    thread's. GPUs' drivers are not in it: asking one takes microseconds of CPU time every five seconds.
    """
    from lottery.experiment.config import Experiment
    from lottery.experiment.sections import SGD, Data, LearningRate, Masks, Model, Training
    from lottery.run.heartbeats import BEAT_EVERY
    from lottery.training.trainer import Trainer
    from lottery.worker import devices, telemetry
    from lottery.worker.position import WorkerPosition

    devices.configure(1, True)
    recipe = Training(2, SGD(momentum=0.9), LearningRate(0.01))
    experiment = Experiment("telemetry", Data(batch=16), Model("resnet20"), recipe, (0,), Masks((0.5,)))
    trainer = Trainer(experiment, (32, 32, 3), 10, (128.0,) * 3, (64.0,) * 3, devices.strategy(WorkerPosition()))
    images = np.random.default_rng(0).integers(256, size=(1, 16, 32, 32, 3)).astype(np.uint8)
    labels, rates = np.zeros((1, 16), np.int32), np.full(1, 1e-3, np.float32)

    def step() -> None:
        trainer.run(images, labels, rates)

    watched = telemetry.Telemetry(every=3600.0)
    children = [subprocess.Popen(["sleep", "600"]) for _ in range(8)]  # as many as assemble batches
    try:
        watched._machine.look()
        meter, calls = watched.meter(), 2000
        batches = watched.waiting(iter(range(calls)))

        def calls_of_a_run() -> None:
            for _ in batches:
                with watched.spent("device"):
                    pass
                watched.trained(16)

        cpu = time.process_time
        of_a_run = _cpu(cpu, calls_of_a_run) / calls
        of_a_beat = statistics.median(_cpu(cpu, meter.read) for _ in range(20))
        of_a_look = statistics.median(_cpu(cpu, watched._machine.look) for _ in range(20))
        step()
        of_a_step = statistics.median(_cpu(cpu, step) for _ in range(20 * rounds))
    finally:
        for child in children:
            child.kill()
            child.wait()
    a_second = of_a_run / of_a_step + 2 * of_a_beat / BEAT_EVERY + of_a_look / (telemetry._SAMPLE_EVERY * 12)
    print(
        f"[telemetry] a run {1e6 * of_a_run:.1f} us, a heartbeat {1e3 * of_a_beat:.2f} ms, a look for processes "
        f"{1e3 * of_a_look:.2f} ms, a step {1e3 * of_a_step:.1f} ms: {a_second:.3%} of the time",
        file=sys.stderr,
    )
    return 1 + a_second


def _cpu(clock: Callable[[], float], act: Callable[[], object]) -> float:
    """CPU-seconds of this process for a call."""
    started = clock()
    act()
    return clock() - started


def switch_ms(rounds: int) -> float:
    """What a bundle of five adds to a ticket's step if each run is one step: MobileNetV2, two images of 32 px.

    The median, over pairs that follow each other at once, of a ticket's CPU time in the bundle less its CPU time among
    the steps of one call.
    """
    from lottery.experiment.config import Experiment
    from lottery.experiment.sections import SGD, Data, LearningRate, Masks, Model, Training
    from lottery.tickets import masks
    from lottery.training.trainer import Trainer
    from lottery.worker import devices
    from lottery.worker.position import WorkerPosition

    devices.configure(1, True)
    recipe = Training(length=2, optimizer=SGD(momentum=0.9), learning_rate=LearningRate(0.01), weight_decay=1e-4)
    experiment = Experiment(
        "switch", Data(batch=2), Model("mobilenet_v2"), recipe, (0,), Masks((0.5, 0.2, 0.1, 0.05, 0.02))
    )
    strategy = devices.strategy(WorkerPosition())
    trainer = Trainer(experiment, (32, 32, 3), 1000, (128.0,) * 3, (64.0,) * 3, strategy)
    state = trainer.first_state(0)
    kernels = {path: state[path] for path in trainer.kernels}
    tickets: list[tuple[Any, Any]] = []
    for mask in masks.global_magnitude_masks(kernels, experiment.masks.densities):
        tickets.append(({path: value * mask.get(path, 1) for path, value in state.items()}, mask))
    steps = 2 * len(tickets)
    images = np.random.default_rng(0).integers(256, size=(steps, 2, 32, 32, 3)).astype(np.uint8)
    labels, rates = np.zeros((steps, 2), np.int32), np.full(steps, 1e-3, np.float32)
    found = []
    for _ in range(8 * rounds + 2):
        started = time.process_time()
        trainer.load(*tickets[0])
        trainer.run(images, labels, rates)
        alone = time.process_time() - started
        started = time.process_time()
        for step in range(2):
            now = slice(step, step + 1)
            for place, (current, mask) in enumerate(tickets):
                trainer.load(current, mask)
                trainer.run(images[now], labels[now], rates[now])
                tickets[place] = trainer.state(), mask
        together = time.process_time() - started
        found.append(1000 * (together - alone) / steps)
        print(f"switch_ms: a step in one call {1000 * alone / steps:.1f}, {found[-1]:.2f} more", file=sys.stderr)
    return statistics.median(found[2:])


def checkpoint_seconds(folder: str, rounds: int, background: bool) -> float:
    """Checking and saving a bundle of five tickets of MobileNetV2, to a local disk.

    With `background`, the part for which training stands still.
    """
    from lottery.tickets import masks
    from lottery.training.state import State
    from lottery.worker import devices
    from lottery.worker.member import Member
    from lottery.worker.session import Session

    devices.configure(1, True)
    sweep = _Bench(Path(folder), rounds).sweep(Path(folder) / "photos", *_RATE, *_MOBILENET)
    session = Session(Instructions(sweep.assignment(()), TaskPlacement()), lambda event: None)
    state: dict[str, Any] = session.trainer.first_state(0)
    kernels = {path: state[path] for path in session.trainer.kernels}
    members, vectors = [], []
    for level, mask in enumerate(masks.global_magnitude_masks(kernels, sweep.experiment.masks.densities)):
        session.trainer.load({path: value * mask.get(path, 1) for path, value in state.items()}, mask)
        members.append(Member(Ticket(level, 0), mask))
        vectors.append(session.trainer.state().vectors)
    seconds = []
    for _ in range(rounds + 1):
        for member, own in zip(members, vectors, strict=True):
            member.state = State(own, session.trainer.state().layouts)  # not in main memory yet, as after a step
        started = time.perf_counter()
        session.begin_save(members)
        if background:
            seconds.append(time.perf_counter() - started)
        session.log.settle()
        if not background:
            seconds.append(time.perf_counter() - started)
        assert {member.status for member in members} == {"training"}
    return statistics.median(seconds[1:])


def _on_photos(function: str, *arguments: Any) -> Any:
    def measure(bench: _Bench) -> float:
        bench.photos()
        return bench.in_process(function, str(bench.folder), bench.rounds, *arguments)

    return measure


_MEASUREMENTS = {
    "[mask]": _on_photos("mask_ratio"),
    "[xla]": lambda bench: bench.in_process("xla_ratio", bench.rounds),
    "[bundle]": measure_bundle,
    "[telemetry]": lambda bench: bench.in_process("telemetry_ratio", bench.rounds),
    "switch_ms": lambda bench: bench.in_process("switch_ms", bench.rounds),
    "digits_s": measure_digits,
    "start_s": measure_start,
    "checkpoint_s": _on_photos("checkpoint_seconds", False),
    "stall_s": _on_photos("checkpoint_seconds", True),
}

if __name__ == "__main__":
    run_or_explain(main)
