import pytest

from lottery.driver import preflight
from preprocessing.common.errors import InputError
from preprocessing.common.storage import Store, open_store
from tests.lottery.probes import place, probe

GOOD = {
    "spark.dynamicAllocation.enabled": "false",
    "spark.executor.resource.gpu.amount": "2",
    "spark.task.resource.gpu.amount": "2",
}


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


def test_a_gpu_of_two_tasks_is_named():
    places = [place(0, ("GPU-1",)), place(1, ("GPU-2", "GPU-1")), place(2, ("GPU-1",), host="other")]
    (line,) = preflight.duplicate_gpus(places)
    assert line.startswith("GPU GPU-1 of h was handed to 2 tasks")


def test_a_place_where_all_is_well(small):
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
    what = (sweep.dataset.uri, sweep.dataset.content_hash, False)
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
    (line,) = preflight.driver_problems(open_store(sweep.run.uri), "probes")
    assert line.startswith("driver: ")
    monkeypatch.undo()
    assert preflight.driver_problems(open_store(sweep.run.uri), "probes") == []


def test_too_little_room_is_named(small, monkeypatch):
    sweep = small()
    monkeypatch.setattr(preflight, "MINIMUM_FREE_BYTES", 1 << 60)
    assert "MiB free; make room" in probe(sweep)[0]


@pytest.mark.cluster
def test_a_gpu_that_tensorflow_does_not_see_is_named(small):
    (line,) = probe(small(), where=place(gpus=("GPU-stub",)))
    assert "Spark gave GPUs GPU-stub, TensorFlow sees 0" in line
    assert probe(small(), where=place(gpus=("GPU-stub",)), check_gpus=False) == ()
