"""Twenty masks on twenty executors: the gang that the suite is made for, on one machine."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from tests.cluster.cluster_sweep import options
from tests.cluster.processes import children, wait_until
from tests.cluster.small_sweep import run_directory
from tests.cluster.standalone import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.long]
EXECUTORS = 20
# With the 20 masks of conf/digits.yaml.
TINY = (
    "model.options={filters: 4, units: 16}",
    "training.length=20",
    "training.learning_rate={peak: 0.03, warmup: 2}",
    "trellis=[0, 2, 4, 6, 8]",
    "tickets.controls=[]",
    "gang.dense_executors=1",
    f"gang.tasks={EXECUTORS}",
    "gang.check_gpus=false",
)


def test_twenty_tasks_run_on_twenty_executors(data, tmp_path, start) -> None:
    runs, log = tmp_path / "runs", tmp_path / "0.log"
    settings = [word for setting in TINY for word in ("--set", setting)]
    cluster = Cluster(tmp_path / "cluster", workers=1, slots=EXECUTORS)
    try:
        sweep = start(
            "lottery_sweep.py",
            *("--experiment", "conf/digits.yaml", "--data", str(data), "--runs", str(runs), *settings),
            options=options(cluster, runs),
        )
        assert sweep.wait(400) == 0, log.read_text()
        wait_until(lambda: not children(runs, guards=True))
    finally:
        cluster.stop()
    assert "gang: 100 trainings on 20 tasks" in log.read_text()
    rows = pq.read_table(run_directory(runs) / "results.parquet").to_pylist()
    assert len(rows) == 100
    assert {row["status"] for row in rows} == {"done"}
    where = {(row["task"], row["executor"]) for row in rows}
    assert len(where) == len({executor for _, executor in where}) == len({task for task, _ in where}) == EXECUTORS
