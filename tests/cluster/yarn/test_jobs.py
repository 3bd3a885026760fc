"""Both jobs on YARN and HDFS, by the commands of docs/clusters.md, with four executors of a stub GPU each."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

import psutil
import pytest

from tests.cluster.packed import SPARK
from tests.cluster.processes import MARK, children, wait_until
from tests.cluster.small_sweep import SETTINGS, TRAININGS, measured, results, run_directory
from tests.cluster.submit import ROOT
from tests.cluster.yarn.client import PATIENCE, Client, document
from tests.hadoop.hdfs import Hdfs
from tests.hadoop.yarn import Yarn

pytestmark = pytest.mark.yarn


def test_both_jobs_give_the_results_of_local_mode(
    yarn: Yarn, hdfs: Hdfs, client: Client, images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    export, submit, preprocess, sweep = (
        line for line in document() if line.startswith(("export ", "SUBMIT=", "$SUBMIT"))
    )
    assert export == "export HADOOP_CONF_DIR=/etc/hadoop/conf"
    preprocess = preprocess.replace("hdfs:///imagenet-256", "hdfs:///data --size 8")
    preprocess = preprocess.replace("hdfs:///imagenet", str(images))  # to upload thousands of files takes minutes
    preprocess = preprocess.replace(" --holdout 10000", "")  # the digits choose and judge on val
    client.shell(f"{preprocessing()}\n{submit}\n{preprocess}")

    settings = " ".join(f"--set '{setting}'" for setting in (*SETTINGS, "gang.check_gpus=false"))
    sweep = sweep.replace("imagenet-resnet50", "digits").replace("imagenet-256", "data")
    mark = f"--conf spark.executorEnv.{MARK}=hdfs:///runs"
    script = f'{submit}\nSUBMIT="$SUBMIT {mark}"\n{sweep} {settings}'
    log = tmp_path / "log"
    with client.started(log, ["sh", "-euc", script]) as process:
        # A task per level of masks, on three of the four executors.
        wait_until(lambda: len(gpus("hdfs:///runs")) == 3 or process.poll() is not None, PATIENCE)
        trainers, found = children("hdfs:///runs"), gpus("hdfs:///runs")
        assert len(found) == 3, log.read_text()
        assert {gpu[: len("GPU-stub-0")] for gpu in found} == {"GPU-stub-0", "GPU-stub-1"}  # of both machines
        assert len(yarn.executors()) == 4
        for trainer in trainers:  # each in its container, with nothing from this machine
            assert "/usercache/" in trainer.cwd()
            path = trainer.environ().get("PYTHONPATH", "").split(os.pathsep)
            assert not [folder for folder in path if folder.startswith(str(ROOT)) and not folder.startswith(str(SPARK))]
            assert trainer.cmdline()[0].endswith("env/bin/python")
        assert process.wait(PATIENCE) == 0, log.read_text()

    hdfs.shell("-get", "/runs", str(tmp_path / "runs"))
    assert measured(tmp_path / "runs") == measured(undisturbed)
    rows = [json.loads(path.read_text()) for path in results(tmp_path / "runs")]
    assert len(rows) == TRAININGS
    assert len({row["executor"] for row in rows}) == 3
    run = run_directory(tmp_path / "runs")
    assert run.name == run_directory(undisturbed).name
    assert (run / "report" / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert not (run / "claim.json").exists()
    assert [each.final for each in yarn.applications()][-2:] == ["SUCCEEDED", "SUCCEEDED"]  # after other tests'


def gpus(runs: object) -> set[str]:
    """The GPUs of a sweep's children just now."""
    found = set()
    for child in children(runs):
        with contextlib.suppress(psutil.Error, KeyError):
            found.add(child.environ()["CUDA_VISIBLE_DEVICES"])
    return found


def preprocessing() -> str:
    """The document's four settings for preprocessing, as a line of shell."""
    (found,) = re.findall(r"^    (PREPROCESSING=\".*?\")$", (ROOT / "docs" / "clusters.md").read_text(), re.M | re.S)
    return str(found)
