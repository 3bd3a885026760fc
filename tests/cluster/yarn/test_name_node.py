"""A sweep whose dataset and run directory are on HDFS, while the name node is away."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.cluster.processes import children, wait_until
from tests.cluster.small_sweep import A_LEVEL, TRAININGS, after_dense, measured, run_directory
from tests.cluster.yarn.client import APART, PATIENCE, Client
from tests.hadoop.hdfs import Hdfs
from tests.hadoop.yarn import Yarn

pytestmark = [pytest.mark.yarn, pytest.mark.long]
AWAY = 20.0  # seconds


@pytest.fixture(scope="module")
def far_data(hdfs: Hdfs, data: Path) -> str:
    hdfs.shell("-put", str(data), "/digits")
    return "hdfs:///digits"


@pytest.mark.parametrize("how", ["stopped", "killed", "in safe mode"])
def test_a_name_node_that_is_away_for_20_s_is_outlasted(
    yarn: Yarn, hdfs: Hdfs, client: Client, far_data: str, undisturbed: Path, tmp_path: Path, how: str
) -> None:
    before, log, runs = tmp_path / "before", tmp_path / "log", f"/runs-{how.replace(' ', '-')}"
    after_dense(undisturbed, before, levels=[0])
    hdfs.shell("-put", str(before), runs)

    def done() -> int:
        return hdfs.shell("-find", f"{runs}/{run_directory(before).name}/tickets", "-name", "result.json").count("\n")

    with client.started(log, client.sweep(far_data, f"hdfs://{runs}", *APART)) as sweep:
        wait_until(lambda: children(f"hdfs://{runs}") or sweep.poll() is not None, PATIENCE)
        wait_until(lambda: done() > A_LEVEL or sweep.poll() is not None, PATIENCE)
        assert sweep.poll() is None, log.read_text()
        if how == "stopped":
            hdfs.name_node.freeze()
            time.sleep(AWAY)
            hdfs.name_node.thaw()
        elif how == "killed":
            hdfs.name_node.stop()
            time.sleep(AWAY)
            hdfs.name_node.start_again()
        else:
            hdfs.safe_mode(True)
            time.sleep(AWAY)
            at_the_end = done()
            hdfs.safe_mode(False)
            assert at_the_end < TRAININGS
        hdfs.wait_until_ready()
        assert sweep.wait(PATIENCE) == 0, log.read_text()
    assert "remaining work again" not in log.read_text()
    assert not children(f"hdfs://{runs}", guards=True)
    hdfs.shell("-get", runs, str(tmp_path / "after"))
    assert measured(tmp_path / "after") == measured(undisturbed)
    assert not list((tmp_path / "after").glob("*/claim.json"))
