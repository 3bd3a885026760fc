"""What Spark says of a job that failed, as py4j hands it to the driver."""

from __future__ import annotations

import traceback

from preprocessing.common.spark_errors import reported

HEAD = """An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 1.0 failed 4 times, \
most recent failure: Lost task 0.3 in stage 1.0 (TID 7) (192.0.2.1 executor 1): """
BARRIER = """An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
: org.apache.spark.SparkException: Job aborted due to stage failure: Could not recover from a failed barrier.
Most recent failure reason: Stage failed because barrier task ResultTask(0, 1) finished unsuccessfully.
"""
_TRACEBACK = """org.apache.spark.api.python.PythonException: {trace}
\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.handlePythonException(PythonRunner.scala:572)
\tat java.base/java.lang.Thread.run(Unknown Source)
"""


def spark_text(error: Exception, head: str = HEAD) -> str:
    """What Spark says where a task raised this."""
    try:
        with reported():
            raise error
    except Exception:
        trace = _TRACEBACK.format(trace=traceback.format_exc())
        return f"{head}{trace}\nDriver stacktrace:\nCaused by: {trace}"
