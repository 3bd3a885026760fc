"""A small sweep on a standalone cluster of the tests."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.processes import MARK
from tests.cluster.small_sweep import arguments
from tests.cluster.standalone import Cluster


def options(cluster: Cluster, runs: Path, all_stay: bool = True) -> list[str]:
    return [*cluster.submit_options(all_stay), "--conf", f"spark.executorEnv.{MARK}={runs}"]


def begin(
    start,
    cluster: Cluster,
    data: Path,
    runs: Path,
    *settings: str,
    more: tuple[str, ...] = (),
    all_stay: bool = True,
):
    """Starts a sweep. Give `all_stay=False` if a machine will be taken away for good."""
    chosen = arguments(data, runs, "gang.check_gpus=false", *settings)
    return start("lottery_sweep.py", *chosen, options=[*options(cluster, runs, all_stay), *more])
