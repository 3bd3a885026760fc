"""An error keeps its kind and message on the way from a task to the driver."""

from __future__ import annotations

import errno

import pytest
from py4j.protocol import Py4JNetworkError

from preprocessing.common.errors import Failure, InputError, Kind, StorageError
from preprocessing.common.spark_errors import ENDED, driver_failure, why_failed
from tests.preprocessing.spark_texts import BARRIER, HEAD, spark_text


class LostError(Exception):
    """An error of another package, with a kind."""

    kind = Kind.GPU_LOST


@pytest.mark.parametrize("head", [HEAD, BARRIER])
@pytest.mark.parametrize(
    ("raised", "failure"),
    [
        (InputError("data: gone; put it back"), Failure(Kind.BAD_INPUT, "data: gone; put it back")),
        (StorageError('cannot write "x": {full}'), Failure(Kind.STORAGE, 'cannot write "x": {full}')),
        (LostError("executor h:1:\nno GPU"), Failure(Kind.GPU_LOST, r"executor h:1:\nno GPU")),
        (ZeroDivisionError("InputError: no"), Failure(Kind.OTHER, "ZeroDivisionError: InputError: no")),
        (OSError(errno.EIO, "", "/x"), "cannot use /x: Input/output error; the disk fails"),
        (OSError(errno.ENOSPC, ""), "cannot use: No space left on device; free some space, or choose another place"),
    ],
)
def test_what_a_task_raised(head: str, raised: Exception, failure: Failure | str) -> None:
    found = why_failed(spark_text(raised, head))
    if isinstance(failure, Failure):
        assert found == failure
    else:
        assert found.kind is Kind.STORAGE
        assert found.message.startswith(failure)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (
            HEAD + "org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)\n\tat org.apache.x",
            Kind.WORKER_DIED,
            "Python worker exited unexpectedly (crashed)",
        ),
        (HEAD + "java.net.SocketException: Connection reset\n\tat x", Kind.WORKER_DIED, "Connection reset"),
        (
            HEAD + "ExecutorLostFailure (executor 1 exited caused by one of the running tasks) Reason: killed\nx",
            Kind.OTHER,
            "ExecutorLostFailure (executor 1 exited caused by one of the running tasks) Reason: killed",
        ),
        (
            BARRIER + "ExecutorLostFailure (executor 1 exited) Reason: Container killed by YARN\nDriver stacktrace:",
            Kind.OTHER,
            "ExecutorLostFailure (executor 1 exited) Reason: Container killed by YARN",
        ),
        (
            BARRIER + "ExecutorLostFailure (executor 1 exited caused by one of the running tasks) Reason: Container "
            "killed by YARN for exceeding physical memory limits. 1022.0 MB of 896 MB physical memory used. Consider "
            "boosting spark.executor.memoryOverhead.\nDriver stacktrace:",
            Kind.OTHER,
            "YARN killed an executor's container for using 1022.0 MB of 896 MB physical memory: "
            "raise spark.executor.memoryOverhead",
        ),
        (
            HEAD + "ExecutorLostFailure (executor 1 exited caused by one of the running tasks) Reason: Container "
            "killed by YARN for exceeding virtual memory limits.  Consider boosting spark.executor.memoryOverhead or "
            "disabling yarn.nodemanager.vmem-check-enabled because of YARN-4714.\nDriver stacktrace:",
            Kind.OTHER,
            "YARN killed an executor's container for using more than its virtual memory: "
            "set yarn.nodemanager.vmem-check-enabled to false in yarn-site.xml on every machine",
        ),
        (
            f"{HEAD}x: Traceback (most recent call last):\n  File x\nModuleNotFoundError: No module y\n",
            Kind.OTHER,
            "ModuleNotFoundError: No module y",
        ),
        (
            f"{HEAD}java.io.IOException: No space left on device\n\tat a.B",
            Kind.STORAGE,
            "free some space in its local folders (spark.local.dir), or name others",
        ),
        ("x.\n: org.SparkException: Job aborted due to stage failure: executor lost\n", Kind.OTHER, "executor lost"),
        ("An error.\n: java.lang.IllegalStateException: odd\n\tat a.B", Kind.OTHER, "IllegalStateException: odd"),
        (": org.SparkException: Job 1 cancelled because SparkContext was shut down", Kind.SPARK_ENDED, ENDED),
        (": java.lang.IllegalStateException: Cannot call methods on a stopped SparkContext.", Kind.SPARK_ENDED, ENDED),
        ("something else\nand more", Kind.OTHER, "something else"),
        ("", Kind.OTHER, "Spark gave no reason"),
    ],
)
def test_what_spark_says_by_itself(text: str, kind: Kind, message: str) -> None:
    found = why_failed(text)
    assert found.kind is kind
    assert found.message.endswith(message)
    assert "\n" not in found.message


@pytest.mark.parametrize("error", [AttributeError("sc"), Py4JNetworkError("refused"), ConnectionResetError()])
def test_a_jvm_that_is_gone(error: Exception) -> None:
    assert driver_failure(error) == Failure(Kind.SPARK_ENDED, ENDED)


def test_a_file_that_the_driver_cannot_write() -> None:
    """By which pyspark gives Spark the data of a job."""
    assert driver_failure(OSError(errno.ENOSPC, "", "/spark")).kind is Kind.STORAGE
