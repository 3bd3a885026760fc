"""How an error gets from a Spark task to the driver: as a marked line of JSON in the message of an exception.

Spark hands on the text of what a task raised, among much of its own. Both jobs encode and decode errors here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from preprocessing.common import storage_errors
from preprocessing.common.errors import Failure, Kind, failure_of

ENDED = "Spark has ended, by SIGTERM or because its process or application was killed"
_MARK = "lottery-trellis failure: "
_MARKED = re.compile(rf"{_MARK}(\{{.*\}})")
_ENDED = re.compile(r"SparkContext was shut down|stopped SparkContext")
_WORKER_DIED = re.compile(r"most recent failure: Lost task .*(Python worker exited unexpectedly|SocketException)")
_TOO_MUCH_MEMORY = re.compile(
    r"Container killed by YARN for exceeding (physical|virtual) memory limits\.(?: ([\d.]+ \w+ of [\d.]+ \w+))?"
)
_FULL = re.compile(r".*(?:No space left on device|Disk quota exceeded)")
_TELLING = (
    r"Traceback \(most recent call last\):\n(?:[ \t].*\n)+(\S.*)",  # Python's, before a task begins: a missing package
    r"most recent failure: Lost task [^:]*: (?:[\w.$]+: )?(.+)",
    r"barrier task .* finished unsuccessfully\.\n(\S.*)",
    r"Job aborted due to stage failure: (.*)",
    r"^: (.*)",  # py4j's: the Java exception, after a line that names the call
    r"(\S.*)",
)


class TaskError(Exception):
    """What a task raises for Spark to hand on; its message is the marked line."""


@contextmanager
def reported() -> Iterator[None]:
    """Around the work of a task: whatever it raises reaches the driver with its kind and message."""
    try:
        yield
    except Exception as error:
        raise TaskError(_MARK + msgspec.json.encode(task_failure(error)).decode()) from error


def task_failure(error: BaseException) -> Failure:
    """The failure of a task that raised this. What the system refuses, such as a temporary file, is storage's."""
    if isinstance(error, OSError) and not isinstance(error, ConnectionError | ChildProcessError):
        return _refused(error)
    return failure_of(error)


def driver_failure(error: BaseException) -> Failure:
    """The failure behind what the driver caught from pyspark or py4j around a job.

    An AttributeError or a connection's error means that there is no JVM any more; another OSError, that the driver
    cannot write the file by which it gives Spark its data.
    """
    from py4j.protocol import Py4JNetworkError

    if isinstance(error, AttributeError | ConnectionError | Py4JNetworkError):
        return Failure(Kind.SPARK_ENDED, ENDED)
    return _refused(error) if isinstance(error, OSError) else why_failed(str(error))


def why_failed(text: str) -> Failure:
    """The failure behind the text with which Spark ends a job: what a task reported, else Spark's own reason."""
    marked = _MARKED.findall(text)
    if marked:
        return msgspec.json.decode(marked[-1], type=Failure)
    if _ENDED.search(text):
        return Failure(Kind.SPARK_ENDED, ENDED)
    if _WORKER_DIED.search(text):
        return Failure(Kind.WORKER_DIED, _telling(text))
    killed = _TOO_MUCH_MEMORY.search(text)
    if killed:
        return Failure(Kind.OTHER, _over_its_limit(killed[1], killed[2]))
    full = _FULL.search(text)
    if full:
        return Failure(
            Kind.STORAGE,
            f"Spark cannot write its files: {full[0].strip()[:300]}; "
            "free some space in its local folders (spark.local.dir), or name others",
        )
    return Failure(Kind.OTHER, _telling(text))


def _over_its_limit(memory: str, used: str | None) -> str:
    remedy = (
        "raise spark.executor.memoryOverhead"
        if memory == "physical"
        else "set yarn.nodemanager.vmem-check-enabled to false in yarn-site.xml on every machine"
    )
    return f"YARN killed an executor's container for using {used or 'more than its'} {memory} memory: {remedy}"


def _refused(error: OSError) -> Failure:
    where = f" {error.filename}" if error.filename else ""
    why, remedy = storage_errors.reason(error), storage_errors.remedy(error, local=True)
    return Failure(Kind.STORAGE, f"cannot use{where}: {why}; {remedy}")


def _telling(text: str) -> str:
    """The one line that matters. Python's own error tells most; next, why Spark lost the task."""
    for pattern in _TELLING:
        found = re.search(pattern, text, re.MULTILINE)
        if found:
            return found[1].strip()
    return "Spark gave no reason"
