"""What Spark says when a job fails, in one line."""

from __future__ import annotations

import errno
import gc
import logging
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from py4j.protocol import Py4JError, Py4JNetworkError

from preprocessing.common.errors import EXIT_STORAGE, InputError, StorageError
from preprocessing.common.spark_errors import ENDED
from preprocessing.job.shards import Shard
from preprocessing.job.spark_run import WorkerDiedError, convert_all, spare_later_tasks, spark_mapper
from tests.preprocessing.raw_images import SerialSpark
from tests.preprocessing.spark_texts import HEAD, spark_text


class Counter:
    """Stands for an accumulator."""

    value = 0

    def add(self, more: int) -> None:
        self.value += more


def run_on_spark_that_raises(error: Exception) -> None:
    """Runs a job on a SparkContext whose jobs end in this error."""

    def fail(*_: object) -> None:
        raise error

    context = SimpleNamespace(parallelize=fail, accumulator=lambda _: Counter())
    spark_mapper(context)(print, [1])


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (InputError("cannot decode x; remove it"), InputError),
        (StorageError("cannot write /x: No space left; free some"), StorageError),
    ],
)
def test_what_a_task_raises_keeps_its_kind(raised: InputError, kind: type[InputError]) -> None:
    """Storage that fails on an executor is no bad input."""
    with pytest.raises(InputError) as caught:
        run_on_spark_that_raises(Py4JError(spark_text(raised)))
    assert type(caught.value) is kind
    assert str(caught.value) == str(raised)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_file_that_the_system_refuses_a_task_or_the_driver_is_storages_failure(number: int) -> None:
    """A disk without room or inodes, where Spark or Python itself writes."""
    raised = OSError(number, os.strerror(number), "/tmp/x")
    for error in (Py4JError(spark_text(raised)), raised):
        with pytest.raises(InputError) as caught:
            run_on_spark_that_raises(error)
        assert type(caught.value) is StorageError
        assert caught.value.exit_status == EXIT_STORAGE
        assert str(caught.value).startswith(f"cannot use /tmp/x: {os.strerror(number)}; ")


def test_a_worker_that_died_and_one_that_raised() -> None:
    died = HEAD + "org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)\n\tat org.apache.x"
    with pytest.raises(WorkerDiedError, match="^the Spark job failed: Python worker exited unexpectedly .*; see"):
        run_on_spark_that_raises(Py4JError(died))
    with pytest.raises(InputError, match="^the Spark job failed: ValueError: no; see the log above, fix") as caught:
        run_on_spark_that_raises(Py4JError(spark_text(ValueError("no"))))
    assert type(caught.value) is InputError


def convert_one(give_up: Callable[[Any], str | None]) -> InputError:
    """The error of a job of one shard."""

    def convert(shard: Shard) -> Any:
        raise AssertionError("there is no Spark")

    shards = [Shard("train", 0, 1, b"")]
    with pytest.raises(InputError) as caught:
        convert_all(
            SerialSpark(), shards, convert, carefully=convert, finished=[], recorded=lambda _: [], give_up=give_up
        )
    return caught.value


def raising(error: Exception) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise error

    return call


@pytest.mark.parametrize("call", ["setJobGroup", "parallelize"])
@pytest.mark.parametrize(
    "raised",
    [
        Py4JNetworkError("Answer from Java side is empty"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        AttributeError("'NoneType' object has no attribute 'sc'"),
        Py4JError(": java.lang.IllegalStateException: Cannot call methods on a stopped SparkContext."),
    ],
)
def test_spark_that_has_ended(monkeypatch: pytest.MonkeyPatch, call: str, raised: Exception) -> None:
    """Whichever call notices."""
    monkeypatch.setattr(SerialSpark, call, raising(raised))
    error = convert_one(lambda _: None)
    assert type(error) is InputError
    assert str(error) == f"{ENDED}; run the same command again to continue"


def test_spark_that_ends_when_a_job_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason for giving up is what matters."""
    for call in ("cancelJobGroup", "parallelize"):
        monkeypatch.setattr(SerialSpark, call, raising(Py4JNetworkError("Answer from Java side is empty")))
    unhandled: list[Any] = []
    monkeypatch.setattr("threading.excepthook", unhandled.append)
    assert str(convert_one(lambda _: "too many")) == "too many"
    assert unhandled == []


class Local:
    """Stands for a SparkContext that runs tasks here."""

    def accumulator(self, _: int) -> Counter:
        return Counter()

    def parallelize(self, items: list[Any], _: int) -> Local:
        self.items = items
        return self

    def map(self, task: Callable[[Any], Any]) -> Local:
        self.task = task
        return self

    def collect(self) -> list[Any]:
        return [self.task(item) for item in self.items]


def test_a_task_logs_as_the_driver_does(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ours = logging.getLogger("preprocessing")
    monkeypatch.setattr(ours, "handlers", [])
    assert spark_mapper(Local())(lambda item: ours.warning("%s", item), [1]) == [None]
    gc.unfreeze()
    assert capsys.readouterr().err.startswith("warning: 1\n")


def test_zip_importers_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.writestr("zipped_module.py", "")
    monkeypatch.syspath_prepend(str(tmp_path / "some.zip"))
    __import__("zipped_module")
    assert str(tmp_path / "some.zip") in sys.path_importer_cache
    spare_later_tasks()
    gc.unfreeze()
    assert str(tmp_path / "some.zip") not in sys.path_importer_cache
