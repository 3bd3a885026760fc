import json

import pytest

from preprocessing.common.errors import InputError

WORKERS = ["a:1", "b:2"]


def config(index=1, kind="worker", cluster=None):
    return json.dumps({"cluster": cluster or {"worker": WORKERS}, "task": {"type": kind, "index": index}})


def test_alone_without_tf_config():
    from lottery.worker.position import worker_position

    assert worker_position({}) == worker_position({"TF_CONFIG": ""}) == (0, 1)
    assert worker_position({}).chief


def test_place_among_the_workers():
    from lottery.worker.position import worker_position

    assert worker_position({"TF_CONFIG": config(1)}) == (1, 2)
    assert not worker_position({"TF_CONFIG": config(1)}).chief
    assert worker_position({"TF_CONFIG": config(0)}).chief


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", config(2), config(-1), config(0, "ps"), config(0, cluster={"worker": WORKERS, "ps": ["c:3"]})],
)
def test_another_tf_config_is_refused_in_one_line(tensorflow, text):
    from lottery.worker.position import worker_position

    with pytest.raises(InputError, match="TF_CONFIG") as error:
        worker_position({"TF_CONFIG": text})
    assert "\n" not in str(error.value)


def test_gpus_that_are_not_there_are_missed(tensorflow):
    from lottery.worker.devices import check_gpus

    check_gpus(0)
    with pytest.raises(InputError, match="of the 2 GPUs that Spark gave the task TensorFlow sees 0; ") as error:
        check_gpus(2)
    assert error.value.exit_status == 4


def test_agreement(tensorflow):
    from lottery.worker.devices import agree
    from tests.lottery.small_training import strategy

    assert agree(strategy(1), 5)
    assert agree(strategy(2), 5)


def test_an_onlooker_reads_and_does_not_write(tmp_path):
    from lottery.run.heartbeats import Heartbeat
    from lottery.run.run_directory import RunDirectory
    from preprocessing.common.storage import open_store

    chief, onlooker = RunDirectory(open_store(tmp_path)), RunDirectory(open_store(tmp_path), read_only=True)
    chief.write_metrics("dense", [{"step": 1}])
    onlooker.write_metrics("dense", [{"step": 2}])
    onlooker.write_report("results.parquet", b"")
    onlooker.heartbeats.write(Heartbeat(task=0, executor="e", trainings=1, done=0, images=0, saved=0))
    assert onlooker.metrics("dense") == [{"step": 1}]
    assert open_store(tmp_path).list() == ["dense/metrics.jsonl"]
