"""What the driver does with stages that fail and executors that are lost; the cluster is simulated here."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from lottery.driver import preflight
from lottery.driver.gang import GangError, GangGpuError, SparkEndedError
from lottery.driver.plan_report import plan_sweep
from lottery.driver.prepare import SweepError, prepare
from lottery.driver.sweep import run_sweep
from lottery.protocol import ModelFacts
from lottery.run.heartbeats import Heartbeat, Heartbeats
from lottery.run.run_directory import DenseResult, RunDirectory
from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.storage import open_store
from preprocessing.common.stores.local import LocalStore
from tests.lottery.datasets import write_dataset
from tests.lottery.fake_cluster import Cluster, fails
from tests.lottery.paths import DIGITS
from tests.lottery.small_sweep import SMALL


@pytest.fixture
def after_dense(small):
    """A sweep whose dense run and masks are done."""
    sweep = small("tickets.controls=[]", "gang.executors_per_ticket=2")
    numbers = {"evaluated": 160, "steps": 30, "seconds": 1.0, "parameters": 1000, "prunable": 900}
    scores = {"top1": 0.5, "top5": 0.9, "loss": 1.0}
    sweep.run.write_dense_result(DenseResult(status="done", note="", executors=1, **scores, **numbers))
    for level in range(2):
        sweep.run.write_mask(level, {"kernel": np.ones(4, bool)})
    return sweep


@pytest.mark.parametrize("place", ["s3://bucket/cache", "s3:/bucket/cache"])
def test_a_cache_outside_local_folders_is_refused_before_anything_starts(small, place):
    with pytest.raises(InputError, match=r"^input\.cache_dir s3:.*(must be on a local disk|write s3://bucket/cache)"):
        small(f"input.cache_dir={place}")


def test_an_evaluation_split_without_images_is_refused_before_the_dense_run(tmp_path):
    uri = str(tmp_path / "data")
    write_dataset(uri, {"train": [32], "val": []}, size=8)
    with pytest.raises(InputError, match="data.evaluate: split val of .* holds no image; name another one"):
        prepare(DIGITS, uri, str(tmp_path / "runs"), SMALL)


def test_a_split_to_choose_on_has_to_be_there(tmp_path):
    write_dataset(str(tmp_path / "data"), {"train": [40], "val": [8], "minival": []}, size=8)
    for split, problem in (("minival", "holds no image"), ("other", "has no such split, only minival, train, val")):
        with pytest.raises(
            InputError, match=f"^data.select: {split}: .*{problem}; preprocess with --holdout"
        ) as caught:
            prepare(DIGITS, str(tmp_path / "data"), str(tmp_path / "runs"), [*SMALL, f"data.select={split}"])
        assert type(caught.value) is InputError
        assert "\n" not in str(caught.value)


def test_nothing_is_planned_again_after_spark_has_ended(after_dense, monkeypatch, caplog):
    cluster = Cluster(monkeypatch, (4, fails(SparkEndedError("told to end"))), (4, fails(GangError("not begun"))))
    with pytest.raises(SparkEndedError, match="told to end"):
        run_sweep(after_dense, lambda: cluster)
    assert "failed" not in caplog.text
    assert len(cluster.stages) == 1
    assert not open_store(after_dense.run.uri).list("claim.json")


def test_it_gives_up_after_three_stages_without_progress(after_dense, monkeypatch):
    def saves():
        after_dense.run.heartbeats.write(Heartbeat(task=0, executor="host:0", trainings=1, done=0, images=16, saved=1))
        raise GangError("executor lost")

    cluster = Cluster(monkeypatch, (4, saves), *[(4, fails(GangError("executor lost")))] * 3)
    with pytest.raises(SweepError, match="gave up after 3 stages without progress: executor lost") as error:
        run_sweep(after_dense, lambda: cluster)
    assert error.value.exit_status == 1
    assert len(cluster.begun) == 4  # the first left a checkpoint, so three more are needed
    assert not open_store(after_dense.run.uri).exists("claim.json")


def test_storage_that_stays_away_is_the_reason_given(after_dense, monkeypatch):
    cluster = Cluster(monkeypatch, *[(4, fails(StorageError("cannot write x: full; free some space")))] * 3)
    with pytest.raises(StorageError, match="gave up after 3 stages without progress: cannot write x: full") as error:
        run_sweep(after_dense, lambda: cluster)
    assert type(error.value) is StorageError
    assert error.value.exit_status == 74


def test_fewer_executors_do_with_fewer_together(after_dense, monkeypatch):
    lost = fails(GangError("executor lost"))
    cluster = Cluster(monkeypatch, (5, lost), (3, lost), (1, lost))
    with pytest.raises(SweepError):
        run_sweep(after_dense, lambda: cluster)
    assert cluster.begun == [(4, 2), (2, 2), (1, 1)]
    assert cluster.settled == [False, True, True]


def test_what_was_asked_for_has_to_fit_at_first(after_dense, monkeypatch):
    cluster = Cluster(monkeypatch, (1, fails(GangError("not begun"))))
    with pytest.raises(InputError, match="gang.executors_per_ticket: 2 executors, but the cluster has 1"):
        run_sweep(after_dense, lambda: cluster)
    assert not cluster.begun


def test_all_executors_lost(after_dense, monkeypatch):
    cluster = Cluster(monkeypatch, (2, fails(GangError("executor lost"))), (0, None))
    with pytest.raises(SweepError, match="all executors are lost; run the same command again"):
        run_sweep(after_dense, lambda: cluster)


def test_no_executor_at_all_is_the_clusters_fault(after_dense, monkeypatch):
    with pytest.raises(InputError, match="no executor had registered") as error:
        run_sweep(after_dense, lambda: Cluster(monkeypatch, (0, None)))
    assert error.value.exit_status == 2


def test_a_plan_on_a_cluster_that_runs_no_gang_is_one_line(after_dense, monkeypatch):
    before = sorted(open_store(after_dense.run.uri).list())
    cluster = Cluster(monkeypatch, (4, None))
    cluster.probe_fate = fails(GangError("it died"))
    with pytest.raises(SweepError, match="the cluster cannot run a gang: it died; look at the logs of its executors"):
        plan_sweep(after_dense, cluster)
    assert sorted(open_store(after_dense.run.uri).list()) == before


def test_a_plan_says_what_a_run_would_do(after_dense, monkeypatch):
    cluster = Cluster(monkeypatch, (5, fails(GangError("not to be begun"))))
    monkeypatch.setattr(preflight.model_check, "ask", lambda *_: ModelFacts(parameters=1470, prunable=1436))
    plan = plan_sweep(after_dense, cluster, price_per_hour=2.0, images_per_second=16.0)
    plan.findings.raise_if_any()
    assert any("gang: 4 tasks on 5 slots" in line for line in plan.lines)
    model = "model: conv_small, 1,470 parameters, 1,436 of them prunable; the masks keep 718, 144"
    assert model in plan.lines
    assert not cluster.begun


def test_a_lost_gpu_is_named_by_another_preflight(after_dense, monkeypatch):
    def lose():
        monkeypatch.setattr(preflight, "probe", found)
        raise GangGpuError("executor host:1: of the 1 GPUs that Spark gave the task TensorFlow sees 0")

    def found(placement, folder, *what):
        return preflight.Probe(placement, ("executor host:1: TensorFlow sees 0; compare nvidia-smi -L",), "", 1 << 30)

    cluster = Cluster(monkeypatch, (2, lose), (2, fails(GangError("not begun again"))))
    with pytest.raises(InputError, match="^executor host:1: TensorFlow sees 0; compare") as error:
        run_sweep(after_dense, lambda: cluster)
    assert error.value.exit_status == 2
    assert (len(cluster.begun), cluster.probes) == (1, 2)


def test_a_dataset_that_is_away_is_waited_for_by_further_stages(after_dense, monkeypatch):
    """Already the preflight meets it, on executors."""
    away = StorageError("cannot read s3://b/data/manifest.json: no connection; check the network")
    away.__cause__ = OSError("AWS Error NETWORK_CONNECTION")
    tries = []

    def opened(uri):
        tries.append(uri)
        if len(tries) <= 4:  # of one preflight
            raise away
        return after_dense.dataset

    monkeypatch.setattr(preflight.Dataset, "open", opened)
    cluster = Cluster(monkeypatch, *[(4, fails(GangError("executor lost")))] * 3)
    with pytest.raises(SweepError, match="executor lost"):
        run_sweep(after_dense, lambda: cluster)
    assert cluster.probes == 2
    assert len(cluster.begun) == 2  # of three stages in a row


def test_a_dataset_that_stays_away_is_storages_failure(after_dense, monkeypatch):
    def opened(uri):
        raise StorageError("cannot read s3://b/data: no connection; check the network") from OSError("AWS Error x")

    monkeypatch.setattr(preflight.Dataset, "open", opened)
    cluster = Cluster(monkeypatch, (4, None))
    with pytest.raises(
        StorageError, match="3 stages without progress: executor host:3: cannot read s3://b/data"
    ) as error:
        run_sweep(after_dense, lambda: cluster)
    assert type(error.value) is StorageError
    assert cluster.probes == 3


@pytest.mark.parametrize(
    ("kind", "read"),
    [(Heartbeats, "read"), (RunDirectory, "done"), (Heartbeats, "clear"), (RunDirectory, "dense_result")],
)
def test_a_run_directory_that_fails_the_driver_itself_is_tried_again(kind, read, after_dense, monkeypatch):
    whole, failures = getattr(kind, read), []

    def away(run):
        if cluster.begun and not failures and threading.current_thread() is threading.main_thread():
            failures.append(read)
            raise StorageError("cannot read x: away")
        return whole(run)

    cluster = Cluster(monkeypatch, *[(4, fails(GangError("executor lost")))] * 5)
    monkeypatch.setattr(kind, read, away)
    with pytest.raises(SweepError, match="gave up after 3 stages"):
        run_sweep(after_dense, lambda: cluster)
    assert failures == [read]
    assert not open_store(after_dense.run.uri).exists("claim.json")


def test_heartbeats_that_cannot_be_cleared_are_no_progress(after_dense, monkeypatch):
    after_dense.run.heartbeats.write(Heartbeat(task=0, executor="e", trainings=1, done=0, images=16, saved=1))

    def away(heartbeats):
        raise StorageError("cannot delete x: away")

    monkeypatch.setattr(Heartbeats, "clear", away)
    with pytest.raises(StorageError, match="cannot delete x"):
        run_sweep(after_dense, lambda: Cluster(monkeypatch, (4, None)))


def test_a_probe_that_cannot_be_deleted_does_not_hide_why_the_gang_died(after_dense, monkeypatch):
    def delete_tree(store, path=""):
        if path.startswith("probes-"):
            raise StorageError("cannot delete x: away")

    cluster = Cluster(monkeypatch, (4, None))
    cluster.probe_fate = fails(SparkEndedError("told to end"))
    monkeypatch.setattr(LocalStore, "delete_tree", delete_tree)
    with pytest.raises(SparkEndedError, match="told to end"):
        run_sweep(after_dense, lambda: cluster)


def test_a_plan_does_not_blame_the_cluster_if_it_is_told_to_end(after_dense, monkeypatch):
    cluster = Cluster(monkeypatch, (4, None))
    cluster.probe_fate = fails(SparkEndedError("told to end"))
    with pytest.raises(SparkEndedError, match="^told to end$"):
        plan_sweep(after_dense, cluster)


def no_spark():
    raise AssertionError("there is something to do")


@pytest.mark.parametrize(
    ("until", "last"),
    [("dense", "states kept at 0, 5, 10"), ("masks", "masks: of densities 0.5, 0.1")],
)
def test_until_stops_after_a_stage_and_says_what_is_there(until, last, after_dense, capsys):
    if until == "dense":
        after_dense.run.discard_masks()
    assert run_sweep(after_dense, no_spark, until) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(last)
    assert not open_store(after_dense.run.uri).exists("results.parquet")


def test_a_driver_in_yarns_cluster_starts_spark_before_it_looks_for_what_to_adopt(small, monkeypatch):
    """YARN would end it after 100 s."""

    class StartedError(Exception):
        pass

    def start():
        raise StartedError

    def look(*_):
        raise AssertionError("too early")

    monkeypatch.setattr("lottery.driver.sweep.find_siblings", look)
    with pytest.raises(StartedError):
        run_sweep(small(), start, patient=False)


def test_masks_that_are_missing_are_made_by_one_task(after_dense, monkeypatch):
    def makes():
        for level in range(2):
            after_dense.run.write_mask(level, {"kernel": np.ones(4, bool)})

    after_dense.run.discard_masks()
    cluster = Cluster(monkeypatch, (4, makes), *[(4, fails(GangError("executor lost")))] * 3)
    with pytest.raises(SweepError):
        run_sweep(after_dense, lambda: cluster)
    assert cluster.begun == [(1, 1), *[(4, 2)] * 3]
    after_dense.run.discard_masks()
    cluster = Cluster(monkeypatch, (4, makes))
    assert run_sweep(after_dense, lambda: cluster, "masks") == 0
    assert cluster.begun == [(1, 1)]
