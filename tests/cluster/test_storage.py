"""Sweeps on a real cluster whose storage fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lottery.run import answers, blobs, checkpoint
from preprocessing.common.storage import open_store
from tests.cluster.cluster_sweep import begin, options
from tests.cluster.processes import children, wait_until
from tests.cluster.small_sweep import A_LEVEL, TRAININGS, after_dense, arguments, kept, measured, results, unchanged
from tests.cluster.submit import submit
from tests.lottery.s3_proxy import CREDENTIALS, s3_proxy

pytestmark = pytest.mark.cluster
AWAY = 20.0  # seconds


def test_a_store_that_refuses_writes_for_20_s_is_outlasted(
    cluster, data, undisturbed, tmp_path, start, monkeypatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    credentials = [word for pair in CREDENTIALS.items() for word in ("--conf", f"spark.executorEnv.{'='.join(pair)}")]
    run = after_dense(undisturbed, tmp_path / "before", levels=[0])
    with s3_proxy() as proxy:
        far = open_store(proxy.uri("runs"))
        for file in filter(Path.is_file, run.rglob("*")):
            far.write(str(file.relative_to(run.parent)), file.read_bytes())

        def done() -> int:
            time.sleep(0.2)
            return sum(name.endswith("/result.json") for name in far.list(f"{run.name}/tickets"))

        sweep = begin(start, cluster, data, far.uri, "gang.bundle=2", more=tuple(credentials))
        wait_until(lambda: A_LEVEL < done() < TRAININGS)
        proxy.refusing = True
        time.sleep(AWAY)
        before = done()
        proxy.refusing = False
        assert before < TRAININGS
        assert any("/tickets/" in path for path in proxy.refused)
        assert sweep.wait(240) == 0, (tmp_path / "0.log").read_text()
        assert not children(far.uri, guards=True)
        assert "remaining work again" not in (tmp_path / "0.log").read_text()
        for name in far.list():
            here = tmp_path / "after" / name
            here.parent.mkdir(parents=True, exist_ok=True)
            here.write_bytes(far.read(name))
    assert measured(tmp_path / "after") == measured(undisturbed)
    assert (tmp_path / "after" / run.name / "results.parquet").exists()
    assert not (tmp_path / "after" / run.name / "claim.json").exists()


class Disk:
    """A file system in memory that can shrink."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def resize(self, size: str) -> bool:
        made = subprocess.run(["mount", "-o", f"remount,size={size}", self.path], capture_output=True, check=False)
        return made.returncode == 0

    def leave(self, room: int) -> bool:
        """Shrinks it until `room` bytes are free; False if more was written meanwhile."""
        now = os.statvfs(self.path)
        return self.resize(str((now.f_blocks - now.f_bfree) * now.f_frsize + room))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a disk of a test's own cannot be mounted here: {mounted.stderr.strip()}")
    yield Disk(path)
    if subprocess.run(["umount", path], check=False).returncode:
        subprocess.run(["umount", "--lazy", path], check=True)


def test_a_full_disk_is_one_clear_error_and_leaves_nothing_half_written(
    cluster, data, undisturbed, tmp_path, start, disk
) -> None:
    assert disk.resize("2g")
    runs, log = disk.path / "runs", tmp_path / "0.log"
    run = after_dense(undisturbed, runs, levels=[0])
    sweep = begin(start, cluster, data, runs, "gang.bundle=2")
    wait_until(lambda: A_LEVEL < len(results(runs)) < TRAININGS and children(runs))
    wait_until(lambda: disk.leave(64 << 10))  # less than a ticket's state
    assert sweep.wait(240) == 74, log.read_text()
    wait_until(lambda: not children(runs, guards=True))
    lines = log.read_text().splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert f"cannot write {run}/" in lines[-1]
    assert "No space left on device; free some space, or choose another place" in lines[-1]
    assert "Traceback" not in log.read_text()

    done = kept(runs)
    assert A_LEVEL < len(done) < TRAININGS
    assert not (run / "claim.json").exists()
    assert not list(run.rglob("*.tmp"))
    for path in run.rglob("*.json"):
        json.loads(path.read_text())
    for path in run.rglob("*.jsonl"):
        [json.loads(line) for line in path.read_text().splitlines()]
    for path in run.rglob("*.safetensors"):
        unpack = {"masks": blobs.unpack_mask, "answers": answers.unpack}
        unpack.get(path.stem, unpack.get(path.parent.name, checkpoint.unpack))(path.read_bytes())

    assert disk.resize("2g")
    again = submit("lottery_sweep.py", *arguments(data, runs, "gang.check_gpus=false"), options=options(cluster, runs))
    assert again.returncode == 0, again.stdout
    assert unchanged(done)
    assert measured(runs) == measured(undisturbed)
    shutil.rmtree(runs)
