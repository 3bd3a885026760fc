"""A sweep of digits that is small enough for a test, and its results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

SETTINGS = (
    "training.length=4ep",
    "training.learning_rate={peak: 0.03, warmup: 1ep}",
    "trellis=[0ep, 0.5ep, 1ep]",
    "masks.densities=[0.2, 0.05, 0.02]",
    "gang.bundle=4",
    "gang.dense_executors=1",  # so that all sweeps give the same bits
)
TRAININGS = 3 * (3 + 1)
A_LEVEL = 3 + 1


def arguments(data: Path, runs: Path, *settings: str) -> list[str]:
    chosen = [word for setting in (*SETTINGS, *settings) for word in ("--set", setting)]
    return ["--experiment", "conf/digits.yaml", "--data", str(data), "--runs", str(runs), *chosen]


def run_directory(runs: Path) -> Path:
    (found,) = runs.iterdir()
    return found


def results(runs: Path) -> list[Path]:
    return sorted(runs.glob("*/tickets/*/result.json"))


def kept(runs: Path) -> dict[Path, int]:
    """The result files so far, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in results(runs)}


def unchanged(before: dict[Path, int]) -> bool:
    return {path: path.stat().st_mtime_ns for path in before} == before


def after_dense(undisturbed: Path, runs: Path, levels: Sequence[int] = ()) -> Path:
    """A run directory in `runs` in which only the dense run and the tickets of these levels are done."""
    run = runs / run_directory(undisturbed).name
    others = shutil.ignore_patterns("heartbeats", "report", "events", "results.*", "submission.json", "telemetry")
    shutil.copytree(run_directory(undisturbed), run, ignore=others)
    for folder in (run / "tickets").iterdir():
        if int(folder.name[:2]) not in levels:
            shutil.rmtree(folder)
    return run


def measured(runs: Path) -> dict[str, tuple[object, ...]]:
    """A sweep's results, without times and places."""
    found = {}
    for path in [*results(runs), *runs.glob("*/dense/result.json")]:
        result = json.loads(path.read_text())
        found[path.parent.name] = tuple(result.get(key) for key in ("status", "top1", "top5", "loss", "kept", "steps"))
    return found
