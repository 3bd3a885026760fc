import itertools
from types import SimpleNamespace

import pytest
from pyspark import SparkConf

from lottery.driver import preflight
from lottery.driver.gang import SparkEndedError
from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.storage import Store, open_store
from preprocessing.common.stores.local import LocalStore
from tests.lottery.probes import place, probe

GOOD = {
    "spark.dynamicAllocation.enabled": "false",
    "spark.executor.resource.gpu.amount": "2",
    "spark.task.resource.gpu.amount": "2",
}


def inspected(sweep, monkeypatch):
    """What a preflight of one task finds; the task runs in this process, not in Spark's."""
    monkeypatch.setattr(preflight, "run_gang", lambda context, tasks, work: [work(place())])
    return preflight.inspect(sweep, None, 1)


def test_good_settings_have_no_problem():
    assert preflight.setting_problems(GOOD) == []
    assert preflight.setting_problems({}) == []


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("spark.dynamicAllocation.enabled", "true", "set it to false"),
        ("spark.speculation", "true", "set it to false"),
        ("spark.task.resource.gpu.amount", "0.5", "whole number"),
        ("spark.executor.resource.gpu.amount", "2.0", "whole number"),
    ],
)
def test_each_bad_setting_is_a_line_with_its_remedy(name, value, remedy):
    (line,) = preflight.setting_problems({**GOOD, name: value})
    assert line.startswith(f"{name}={value}: ")
    assert remedy in line


@pytest.mark.parametrize("name", ["spark.executor.resource.gpu.amount", "spark.task.resource.gpu.amount"])
def test_gpus_that_no_task_would_get(name):
    for settings in ({**GOOD, name: "0"}, {name: "1"}):
        (line,) = preflight.setting_problems(settings)
        assert "no task would be given a GPU; set both to" in line


def test_a_sweep_on_processors_alone_from_a_file_with_gpus():
    none = {"spark.executor.resource.gpu.amount": "0", "spark.task.resource.gpu.amount": "0"}
    assert preflight.setting_problems({**GOOD, **none}) == []


def test_a_secret_that_a_standalone_cluster_would_ask_for():
    settings = {"spark.authenticate": "true", "spark.master": "spark://host:7077"}
    assert "spark.authenticate.secret" in preflight.setting_problems(settings)[0]
    assert preflight.setting_problems({**settings, "spark.authenticate.secret": "s"}) == []
    assert preflight.setting_problems({**settings, "spark.master": "yarn"}) == []  # which makes one by itself


def test_all_problems_are_shown(caplog):
    with pytest.raises(InputError, match="^third$"):
        preflight.raise_if_any(["first", "second", "third"])
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("ERROR", "first"),
        ("ERROR", "second"),
    ]
    preflight.raise_if_any([])


def test_settings_of_yarn_that_end_executors_are_logged(caplog):
    hadoop = {"yarn.nodemanager.vmem-check-enabled": "true", "yarn.scheduler.maximum-allocation-vcores": "4"}
    conf = SparkConf(loadDefaults=False).setAll([("spark.master", "yarn"), ("spark.executor.cores", "6")])
    jvm = SimpleNamespace(hadoopConfiguration=lambda: hadoop)
    preflight.log_warnings(SimpleNamespace(getConf=lambda: conf, _jsc=jvm))
    assert [(record.levelname, record.message.split(":")[0]) for record in caplog.records] == [
        ("WARNING", "yarn.nodemanager.vmem-check-enabled=true"),
        ("WARNING", "spark.executor.cores=6"),
        ("WARNING", "spark.executor.memoryOverhead is not set"),
    ]
    with pytest.raises(SparkEndedError):
        preflight.log_warnings(SimpleNamespace(getConf=lambda: conf, _jsc=None))


def test_a_gpu_of_two_tasks_is_named():
    places = [place(0, ("GPU-1",)), place(1, ("GPU-2", "GPU-1")), place(2, ("GPU-1",), host="other")]
    (line,) = preflight.duplicate_gpus(places)
    assert line.startswith("GPU GPU-1 of h was handed to 2 tasks")


def test_a_place_without_problems(small):
    sweep = small()
    assert probe(sweep) == ()
    assert len(open_store(sweep.run.uri).list("probes")) == 1


def test_what_an_executor_cannot_see_is_named(small, tmp_path):
    sweep = small()
    (line,) = probe(sweep, data=str(tmp_path / "nowhere"))
    assert line.startswith("executor h:0: ")
    assert str(tmp_path / "nowhere") in line
    assert "executors see" in line
    assert "is not the driver's" in probe(sweep, dataset_hash="0" * 64)[0]
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert "must be writable" in probe(sweep, run=str(blocked / "run"))[0]


def test_an_executor_with_a_folder_of_its_own_is_named(small, tmp_path):
    sweep = small()
    what = (sweep.dataset.uri, sweep.dataset.content_hash, False, sweep.input_memory())
    folder = preflight.probe_folder()
    shared = preflight.probe(place(0), folder, sweep.run.uri, *what)
    own = preflight.probe(place(1), folder, str(tmp_path / "own"), *what)
    (line,) = preflight.unseen_probes(open_store(sweep.run.uri), folder, [shared, own])
    assert line.startswith("executor h:1: the driver does not see what it writes to")


def test_a_run_directory_that_lets_two_work_at_once_is_named(small, monkeypatch):
    """Found by the driver and by every executor, before anything is trained or claimed."""
    sweep = small()
    monkeypatch.setattr(Store, "create", lambda store, path, data: store.write(path, data) or True)
    (line,) = probe(sweep)
    assert "lets two make the same file; --runs must be writable" in line
    assert inspected(sweep, monkeypatch).problems[0].endswith("lets two make the same file; choose another --runs")
    monkeypatch.undo()
    assert inspected(sweep, monkeypatch).problems == ()


def test_an_outage_that_only_the_driver_sees_is_not_bad_input(small, monkeypatch):
    sweep, write = small(), Store.write

    def away(store, path, data):
        if "driver-check" in store.uri:
            raise StorageError(f"cannot write {path}: no connection; check the network") from OSError("timed out")
        write(store, path, data)

    monkeypatch.setattr(Store, "write", away)
    found = inspected(sweep, monkeypatch)
    assert found.problems == ()
    assert found.outages == ("driver: cannot write folder/file: no connection; check the network",)
    with pytest.raises(StorageError) as caught:
        found.raise_if_any()
    assert type(caught.value) is StorageError


def test_a_refusal_that_only_the_driver_sees_is_a_problem_with_one_remedy(small, monkeypatch):
    def refused(store, path, data):
        raise StorageError(f"cannot write {path}: Permission denied; check the permissions") from PermissionError()

    sweep = small()
    monkeypatch.setattr(Store, "write", refused)
    problems, outages = preflight.driver_check(open_store(sweep.run.uri), "probes")
    assert problems == ("driver: cannot write folder/file: Permission denied; check the permissions",)
    assert outages == ()


@pytest.mark.parametrize("operation", ["write", "read", "list", "create", "delete", "delete_tree"])
@pytest.mark.parametrize("call", range(5))
def test_a_remote_store_that_refuses_one_request_is_asked_again(small, monkeypatch, operation, call):
    """By executors and by the driver, for the probes' folder too."""
    sweep, action, calls = small(), getattr(Store, operation), itertools.count()
    monkeypatch.setattr("preprocessing.common.retries.PATIENT_PAUSES", (0.0,))
    monkeypatch.setattr(LocalStore, "is_local", False)

    def refuses(*arguments):
        if next(calls) == call:
            raise StorageError("cannot do it: slow down; check the network") from OSError("503 SlowDown")
        return action(*arguments)

    monkeypatch.setattr(Store, operation, refuses)
    found = inspected(sweep, monkeypatch)
    assert (found.problems, found.outages) == ((), ())
    assert next(calls) > 1
    assert not [name for name in open_store(sweep.run.uri).list() if name.startswith("probes")]


def test_too_little_room_is_named(small, monkeypatch):
    sweep = small()
    monkeypatch.setattr(preflight, "MINIMUM_FREE_BYTES", 1 << 60)
    assert "MiB free; make room" in probe(sweep)[0]


@pytest.mark.cluster
def test_a_gpu_that_tensorflow_does_not_see_is_named(small):
    (line,) = probe(small(), where=place(gpus=("GPU-stub",)))
    assert "Spark gave GPUs GPU-stub, TensorFlow sees 0" in line
    assert probe(small(), where=place(gpus=("GPU-stub",)), check_gpus=False) == ()
