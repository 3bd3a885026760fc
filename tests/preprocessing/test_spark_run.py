"""What Spark says when a job fails, in one line."""

from __future__ import annotations

import gc
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from py4j.protocol import Py4JError

from preprocessing.common.errors import EXIT_STORAGE, InputError
from preprocessing.job.spark_run import _collect, explain, spare_later_tasks, worker_died

HEAD = """An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 1.0 failed 4 times, \
most recent failure: Lost task 0.3 in stage 1.0 (TID 7) (192.0.2.1 executor 1): """
TRACEBACK = """org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "/x/pyspark/worker.py", line 1247, in main
    process()
{error}

\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.handlePythonException(PythonRunner.scala:572)
Caused by: org.apache.spark.api.python.PythonException: Traceback (most recent call last):
{error}
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            HEAD
            + TRACEBACK.format(
                error="preprocessing.common.errors.InputError: cannot write /x: No space left; free some"
            ),
            "cannot write /x: No space left; free some",
        ),
        (HEAD + TRACEBACK.format(error="MemoryError: out of it"), "the Spark job failed: MemoryError: out of it; see"),
        (
            HEAD + "org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)\n\tat org.apache.x",
            "the Spark job failed: Python worker exited unexpectedly (crashed); see",
        ),
        (
            HEAD
            + "ExecutorLostFailure (executor 1 exited caused by one of the running tasks) Reason: killed by YARN\nx",
            "the Spark job failed: ExecutorLostFailure (executor 1 exited caused by one of the running tasks) Reason",
        ),
        ("something else\nand more", "the Spark job failed: something else; see"),
    ],
)
def test_the_line_that_matters(text: str, line: str) -> None:
    assert explain(text).startswith(line)
    assert "\n" not in explain(text)


@pytest.mark.parametrize(("kind", "status"), [("InputError", 2), ("StorageError", EXIT_STORAGE)])
def test_what_storage_refused_to_a_task_is_no_bad_input(kind: str, status: int) -> None:
    def fail(*_: object) -> None:
        raise Py4JError(
            HEAD + TRACEBACK.format(error=f"preprocessing.common.errors.{kind}: cannot write /x: No space left")
        )

    context = SimpleNamespace(parallelize=fail)
    with pytest.raises(InputError, match="^cannot write /x: No space left$") as caught:
        _collect(context, [1], print)
    assert caught.value.exit_status == status


@pytest.mark.parametrize(
    ("text", "died"),
    [
        (
            HEAD + "org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)\n\tat org.apache.x",
            True,
        ),
        (HEAD + "java.net.SocketException: Connection reset\n\tat java.base/sun.nio.x", True),
        (HEAD + TRACEBACK.format(error="ValueError: Python worker exited unexpectedly"), False),
        (HEAD + "ExecutorLostFailure (executor 1 exited caused by one of the running tasks) Reason: killed", False),
    ],
)
def test_a_worker_that_died_and_one_that_raised(text: str, died: bool) -> None:
    assert worker_died(text) is died


def test_zip_importers_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.writestr("zipped_module.py", "")
    monkeypatch.syspath_prepend(str(tmp_path / "some.zip"))
    __import__("zipped_module")
    assert str(tmp_path / "some.zip") in sys.path_importer_cache
    spare_later_tasks()
    gc.unfreeze()
    assert str(tmp_path / "some.zip") not in sys.path_importer_cache
