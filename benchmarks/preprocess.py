"""How fast raw images become a dataset: our job against its peers, on the same images, in one run.

`python -m benchmarks.preprocess --images DIR` prints a table and, last, one JSON line. The images of DIR are repeated
up to `--count` and copied to a folder in memory. Output goes there too, so that no disk is measured. Every measurement
is a process of its own. Its start (Python, libraries, the JVM) does not count; `startup_s` says how long that took.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import chosen
from benchmarks.environment import ROOT, activate
from preprocessing.common.errors import InputError
from preprocessing.common.program import run_or_explain

SIZE = 256
CLASSES = 100

# In the order of the table: name, description, and a module that it needs and the project does not install.
CONTENDERS: tuple[tuple[str, str, str | None], ...] = (
    ("limit", "decode + resize alone, bytes in memory", None),
    ("pillow", "the same with Pillow: full decode, antialiased bilinear", None),
    ("ours", "jobs/preprocess.py", None),
    ("petastorm", "petastorm's ImageNet recipe: cv2, PNG, rows through the JVM", "petastorm"),
    ("tfrecord", "TFRecord, a process per core, our decoder", "tensorflow"),
    ("webdataset", "webdataset's ShardWriter, a process per core, our decoder", "webdataset"),
    ("mosaic", "mosaicml-streaming's MDSWriter, a process per core, our decoder", "streaming"),
)
WRITERS = ("tfrecord", "webdataset", "mosaic")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all contenders or, in a child, one."""
    parser = argparse.ArgumentParser("python -m benchmarks.preprocess", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--images", type=Path, required=True, help="folder with images, at any depth")
    parser.add_argument("--count", type=int, default=4000, help="measure with at least this many images (default 4000)")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="processes or Spark cores (default all)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds per measurement; the best counts (default 2)")
    parser.add_argument("--work", type=Path, help="folder in memory for input and output (default /dev/shm)")
    names = [name for name, _, _ in CONTENDERS]
    default = ", ".join(names)
    parser.add_argument("--only", metavar="NAMES", help=f"contenders to run, separated by commas (default {default})")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        return _child(options.one, options.images, options.work, options.cores)
    wanted = chosen(options.only, names)
    activate()
    parent = options.work or (Path("/dev/shm") if Path("/dev/shm").is_dir() else None)
    with tempfile.TemporaryDirectory(prefix="preprocess-benchmark-", dir=parent) as folder:
        source = Path(folder) / "source"
        count = repeat_images(options.images, source, options.count)
        results = measure_all(wanted, source, Path(folder) / "output", options.cores, options.rounds)
    print_table(results, count, options.cores)
    print(json.dumps(summarise(results, count, options.cores)))
    return 0


def repeat_images(images: Path, source: Path, count: int) -> int:
    """Copies the images to class folders in `source`/train, repeatedly, until there are at least `count`; how many."""
    files = sorted(path for path in images.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg", ".png"))
    if not files:
        raise InputError(f"--images {images} holds no images: give a folder with *.JPEG files")
    total = -(-count // len(files)) * len(files)
    for number in range(total):
        folder = source / "train" / f"c{number % CLASSES:03}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files[number % len(files)], folder / f"{number:06}.JPEG")
    return total


def measure_all(
    wanted: Sequence[str], source: Path, output: Path, cores: int, rounds: int
) -> dict[str, dict[str, Any]]:
    """The best of `rounds` of each contender. A contender that cannot run is skipped with a note."""
    results: dict[str, dict[str, Any]] = {}
    for turn in range(rounds):
        for name, _, needs in CONTENDERS:
            if name not in wanted:
                continue
            if needs and not _installed(needs):
                if not turn:
                    print(f"{name}: skipped, {needs} is not installed", flush=True)
                continue
            shutil.rmtree(output, ignore_errors=True)
            output.mkdir()
            found = _run_child(name, source, output, cores)
            print(f"round {turn + 1}: {name} {found['images'] / found['seconds']:,.0f} images/s", flush=True)
            best = results.setdefault(name, found)
            worst_memory = max(best.get("task_rss_mb", 0), found.get("task_rss_mb", 0))
            if found["seconds"] < best["seconds"]:
                results[name] = found
            if worst_memory:
                results[name]["task_rss_mb"] = worst_memory
    shutil.rmtree(output, ignore_errors=True)
    return results


def print_table(results: dict[str, dict[str, Any]], count: int, cores: int) -> None:
    """Prints the measurements."""
    print(f"\n{count:,} images to {SIZE} px on {cores} cores")
    print(f"{'':12}{'images/s':>10}{'per CPU-s':>11}{'MB written':>12}  what")
    for name, what, _ in CONTENDERS:
        if name in results:
            row = results[name]
            rate, per_cpu = row["images"] / row["seconds"], row["images"] / row["cpu_seconds"]
            print(f"{name:12}{rate:10,.0f}{per_cpu:11,.0f}{row.get('bytes', 0) / 1e6:12,.0f}  {what}")


def summarise(results: dict[str, dict[str, Any]], count: int, cores: int) -> dict[str, Any]:
    """The JSON line. A ratio needs both of its sides measured."""
    rates = {name: row["images"] / row["seconds"] for name, row in results.items()}
    writers = [rates[name] for name in WRITERS if name in rates]
    ratios = {}
    if "ours" in rates:
        others = {
            "limit": rates.get("limit"),
            "petastorm": rates.get("petastorm"),
            "writer": max(writers, default=None),
        }
        ratios = {name: rates["ours"] / other for name, other in others.items() if other}
    if "limit" in rates and "pillow" in rates:
        ratios["pillow"] = rates["limit"] / rates["pillow"]
    found = {
        "images": count,
        "cores": cores,
        "images_per_s": {name: round(rate, 1) for name, rate in rates.items()},
        "images_per_cpu_s": {name: round(row["images"] / row["cpu_seconds"], 1) for name, row in results.items()},
        "bytes": {name: row["bytes"] for name, row in results.items() if row.get("bytes")},
        "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
    }
    for key in ("psnr_db", "startup_s", "task_rss_mb"):
        values = [row[key] for row in results.values() if key in row]
        if values:
            found[key] = round(values[0], 2)
    return found


def _installed(module: str) -> bool:
    return subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


def _run_child(name: str, source: Path, output: Path, cores: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.preprocess", "--one", name, "--images", str(source)]
    command += ["--work", str(output), "--cores", str(cores)]
    started = time.time()
    environment = {**os.environ, "BENCHMARK_STARTED": str(started), "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    if done.returncode:
        last = done.stderr.decode().strip().rpartition("\n")[2]
        raise InputError(f"{name} failed: {last}; run it by hand: {' '.join(command)}")
    found: dict[str, Any] = json.loads(done.stdout.decode().splitlines()[-1])
    return found


def _child(name: str, source: Path, output: Path, cores: int) -> int:
    from benchmarks import preprocess_contenders

    print(json.dumps(preprocess_contenders.run(name, source, output, cores)))
    return 0


if __name__ == "__main__":
    run_or_explain(main)
