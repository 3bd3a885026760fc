"""How fast images get from a dataset into TensorFlow's tensors: our input against its peers, on the same images.

`python -m benchmarks.input --dataset DIR` prints a table and, last, one JSON line. DIR is a local dataset of tensors.
Peers read copies of it in their own formats, which are made in a folder in memory and read once beforehand, so that no
disk is measured. Every measurement is a process of its own, bound to one core (or two), and begins after its first
images.

Ratios compare images per CPU-second, which other processes on the machine disturb least. Only `cores` and `machine`
compare images per second: our input on two cores with two processes apart, and these with one core. `machine` says what
the second core is worth: two cores may be two threads of one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.contenders import chosen
from benchmarks.environment import ROOT
from benchmarks.input_peers import write_tars, write_tfrecords
from preprocessing.common.errors import InputError
from preprocessing.common.program import run_or_explain
from preprocessing.dataset.opening import Dataset

# In the order of the table: name, what it is, the cores that it is given.
CONTENDERS: tuple[tuple[str, str, int], ...] = (
    ("limit", "read() into memory and a copy of each batch", 1),
    ("limit_2", "the same on two cores: what this machine gains by its second", 2),
    ("mapped", "ours: memory-mapped, all images shuffled", 1),
    ("general", "ours: row groups through pyarrow.fs, windows of 4 shuffled", 1),
    ("augmented", "ours: mapped, crop 224, flip, normalised float32", 1),
    ("augmented_2", "the same on two cores", 2),
    ("augmented_apart", "the same in two processes, a core each: what this machine has in its second core", 2),
    ("resized", "ours: mapped, random resized crop 224, flip, colour", 1),
    ("resized_2", "the same on two cores", 2),
    ("resized_apart", "the same in two processes, a core each", 2),
    ("tfrecord", "TFRecord: parse, decode_raw, batch", 1),
    ("tfrecord_augmented", "TFRecord: the same and tf.image's crop 224, flip, normalised float32", 1),
    ("petastorm", "petastorm's make_petastorm_dataset, batch", 1),
    ("webdataset", "webdataset: tar of raw pixels, batched", 1),
)
# Peers whose package is not among the project's, and why.
LEFT_OUT = {
    "mosaicml-streaming": "needs PyTorch with its CUDA libraries",
    "ffcv": "needs PyTorch, and OpenCV's headers to be built",
}
# Ratio: whose speed, over whose, and the target; 0 is for what the machine allows, which is there to compare with.
_PROCESSES = {"augmented_apart": 2, "resized_apart": 2}  # measured side by side; elsewhere one
# The contenders that are packages, and which extra of setup.py brings each.
EXTRAS = {"webdataset": "bench", "petastorm": "petastorm"}
RATIOS: tuple[tuple[str, str, str, float], ...] = (
    ("limit", "mapped", "limit", 0.30),
    ("tfrecord", "mapped", "tfrecord", 4.0),
    ("petastorm", "mapped", "petastorm", 20.0),
    ("augmented", "augmented", "tfrecord_augmented", 8.0),
    ("general", "general", "tfrecord", 1.5),
    ("cores", "augmented_2", "augmented_apart", 0.9),
    ("cores_resized", "resized_2", "resized_apart", 0.9),
    ("machine", "augmented_apart", "augmented", 0.0),
    ("machine_resized", "resized_apart", "resized", 0.0),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs everything."""
    parser = argparse.ArgumentParser("python -m benchmarks.input", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--dataset", required=True, help="a local dataset of tensors of 224 px or more")
    parser.add_argument("--split", default="train", help="split to read (default train)")
    parser.add_argument("--batch", type=int, default=64, help="images in a batch (default 64)")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds per measurement (default 3)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds per measurement; the best counts (default 2)")
    names = [*(name for name, _, _ in CONTENDERS), "resume"]
    default = ", ".join(names)
    parser.add_argument("--only", metavar="NAMES", help=f"contenders to run, separated by commas (default {default})")
    options = parser.parse_args(arguments)
    wanted = chosen(options.only, names)
    dataset = Dataset.open(options.dataset)
    split = dataset.split(options.split)
    if dataset.codec != "tensor" or dataset.size < 224 or not split.random_access or split.count < options.batch:
        raise InputError(
            f"--dataset {options.dataset}: give a local dataset of tensors of 224 px or more, with at least "
            f"{options.batch} images in {options.split}"
        )
    memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="input-benchmark-", dir=memory) as folder:
        if any(name.startswith("tfrecord") for name in wanted):
            write_tfrecords(split, Path(folder))
        if "webdataset" in wanted and _is_installed("webdataset"):
            write_tars(split, Path(folder))
        results: dict[str, dict[str, float]] = {}
        resumes: list[float] = []
        for _ in range(options.rounds):
            for name, _, cores in CONTENDERS:
                if name in wanted and _is_installed(name):
                    _keep_best(results, name, _measure(name, cores, folder, options))
            if "resume" in wanted:
                resumes.append(_measure("resume", 1, folder, options)["resume_s"])
    ratios = compute_ratios(results)
    print_table(results, ratios, split.count, options.batch)
    summary: dict[str, Any] = {"images": split.count, "size": dataset.size, "results": results, "ratios": ratios}
    if resumes:
        summary["resume_s"] = statistics.median(resumes)
        seconds = summary["resume_s"]
        print(f"first batch of step 1,000,000: {seconds:.2f} s in the order of 1,281,167 images, target at most 1")
    print(json.dumps(summary))
    return 0


def _is_installed(contender: str) -> bool:
    return contender not in EXTRAS or find_spec(contender) is not None


def compute_ratios(results: dict[str, dict[str, float]]) -> dict[str, float]:
    """The ratios of the targets, as far as both sides were measured."""
    ratios = {}
    for ratio, ours, other, _ in RATIOS:
        if ours in results and other in results:
            by = "per_second" if ratio.startswith(("cores", "machine")) else "per_cpu_second"
            ratios[ratio] = round(results[ours][by] / results[other][by], 3)
    return ratios


def print_table(results: dict[str, dict[str, float]], ratios: dict[str, float], images: int, batch: int) -> None:
    """Results and ratios for a reader."""
    print(f"\n{images:,} images, batches of {batch}\n")
    print(f"{'':20}{'images/CPU-s':>14}{'images/s':>12}{'MB resident':>13}")
    for name, what, _ in CONTENDERS:
        if name in results:
            row = results[name]
            print(
                f"{name:20}{row['per_cpu_second']:14,.0f}{row['per_second']:12,.0f}{row['resident_mb']:13,.0f}  {what}"
            )
        elif not _is_installed(name):
            print(f"{name:20}is not installed: pip install '.[{EXTRAS[name]}]'")
    for name, why in LEFT_OUT.items():
        print(f"{name:20}is not measured: it {why}")
    print()
    for ratio, ours, other, target in RATIOS:
        if ratio in ratios:
            wanted = f", target at least {target:g}" if target else ""
            print(f"[{ratio}] {ours} / {other} = {ratios[ratio]:.2f}{wanted}")


def _measure(name: str, cores: int, folder: str, options: argparse.Namespace) -> dict[str, float]:
    """One measurement; of several processes at once, the sum per second and the mean per CPU-second."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    processes = _PROCESSES.get(name, 1)
    children = [_start(name, allowed[number::processes], folder, options) for number in range(processes)]
    found = []
    for child in children:
        said, log = child.communicate(timeout=60 + 20 * options.seconds)
        if child.returncode:
            raise InputError(f"benchmark of {name} failed: {' '.join(log.splitlines()[-1:])}; run it with --only")
        found.append(json.loads(said.splitlines()[-1]))
    row: dict[str, float] = {key: sum(each[key] for each in found) for key in found[0]}
    if "per_cpu_second" in row:
        row["per_cpu_second"] /= processes
    print(f"{name}: {row}", file=sys.stderr, flush=True)
    return row


def _start(name: str, cores: Sequence[int], folder: str, options: argparse.Namespace) -> subprocess.Popen[str]:
    request = {
        "name": name,
        "dataset": str(options.dataset),
        "split": options.split,
        "folder": folder,
        "batch": options.batch,
        "seconds": options.seconds,
        "cores": list(cores),
    }
    command = [sys.executable, "-m", "benchmarks.input_contenders", json.dumps(request)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _keep_best(results: dict[str, dict[str, float]], name: str, found: dict[str, float]) -> None:
    best = results.setdefault(name, found)
    for key in ("per_second", "per_cpu_second"):
        best[key] = max(best[key], found[key])
    best["resident_mb"] = max(best["resident_mb"], found["resident_mb"])


if __name__ == "__main__":
    run_or_explain(main)
