"""Whether the input keeps a device busy: a real model trains on real images, and then on one batch over and over.

`python -m benchmarks.feed --dataset DIR` trains the recipes of conf/imagenet-mobilenet_v2.yaml and
conf/imagenet-resnet50.yaml, each alone and in a bundle of 5 tickets, by the loop that trains tickets. It prints a table
and, last, one JSON line. On GPUs batches and crops are the recipe's; without one they are small, so that it takes a few
minutes. Every measurement is a process of its own. In it the two sides take turns, and the ratio is the median of the
rounds. images/s counts an image once for each ticket that trains on it.

`cores` is how many cores a GPU that trains on --gpu-images-per-second images needs. Only with GPUs does it include the
training process itself: a CPU's time for the arithmetic says nothing about that.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.contenders import chosen
from benchmarks.environment import ROOT
from preprocessing.common.errors import InputError
from preprocessing.common.program import run_or_explain
from preprocessing.dataset.opening import Dataset

TARGET = 0.97
# Name: recipe, tickets in the bundle.
CONTENDERS: dict[str, tuple[str, int]] = {
    "mobilenet_v2": ("mobilenet_v2", 1),
    "mobilenet_v2_5": ("mobilenet_v2", 5),
    "resnet50": ("resnet50", 1),
    "resnet50_5": ("resnet50", 5),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs everything."""
    parser = argparse.ArgumentParser("python -m benchmarks.feed", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--dataset", required=True, help="a dataset that was preprocessed")
    parser.add_argument("--batch", type=int, help="images in a batch (default: the recipe's, without a GPU 16)")
    parser.add_argument("--crop", type=int, help="pixels a side (default: the recipe's, without a GPU 64)")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds a side and round (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the median counts (default 3)")
    parser.add_argument("--gpu-images-per-second", type=float, default=2500.0, help="of one GPU (default 2500)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a value of the recipe")
    default = ", ".join(CONTENDERS)
    parser.add_argument("--only", metavar="NAMES", help=f"contenders to run, separated by commas (default {default})")
    options = parser.parse_args(arguments)
    wanted = chosen(options.only, list(CONTENDERS))
    Dataset.open(options.dataset)
    results = {name: _measure(name, options) for name in wanted}
    for row in results.values():
        row["cores"] = cores_needed(row, options.gpu_images_per_second)
    print_table(results, options.gpu_images_per_second)
    print(json.dumps({"gpu_images_per_second": options.gpu_images_per_second, "results": results}))
    return 0


def cores_needed(row: dict[str, Any], images_per_second: float) -> float:
    """The cores that feed a GPU: they assemble each image once for all tickets; on GPUs also the training process."""
    seconds = row["input_cpu_us"] / 1e6 / row["tickets"]
    if row["gpus"]:
        seconds += row["one_batch_cpu_ms"] / 1e3 / row["batch"]
    return round(images_per_second * seconds, 2)


def print_table(results: dict[str, dict[str, Any]], images_per_second: float) -> None:
    """Results for a reader."""
    print(f"\n{'':16}{'images/s':>10}{'one batch':>11}{'ratio':>7}{'CPU ms/step':>13}{'one batch':>11}", end="")
    print(f"{'input us/image':>16}{'cores':>7}")
    for name, row in results.items():
        print(f"{name:16}{row['per_second']:10,.1f}{row['one_batch_per_second']:11,.1f}{row['ratio']:7.3f}", end="")
        print(f"{row['cpu_ms']:13,.1f}{row['one_batch_cpu_ms']:11,.1f}{row['input_cpu_us']:16,.1f}{row['cores']:7.2f}")
    print(f"\nratio: target at least {TARGET:g}. cores: for a GPU of {images_per_second:,.0f} images/s")
    for name, row in results.items():
        if "gpu_percent" in row:
            print(f"{name}: {row['gpus']} GPUs, {row['gpu_percent']:.0f}% busy, {row['gpu_watts']:.0f} W in all")
    if not any(row["gpus"] for row in results.values()):
        print("no GPU was there: device use and power were not measured, and cores are the input's alone")


def _measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    recipe, tickets = CONTENDERS[name]
    request = {
        "recipe": recipe,
        "tickets": tickets,
        "dataset": options.dataset,
        "batch": options.batch,
        "crop": options.crop,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "overrides": options.set,
    }
    command = [sys.executable, "-m", "benchmarks.feed_contender", json.dumps(request)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2].removeprefix("error: ")
        raise InputError(f"benchmark of {name} failed: {last}; run it with --only {name}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}: {row}", file=sys.stderr, flush=True)
    return row


if __name__ == "__main__":
    run_or_explain(main)
