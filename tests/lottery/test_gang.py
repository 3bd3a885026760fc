"""What the driver makes of Spark's words when a stage fails."""

import pytest

from lottery.gang import GangError, GangStorageError, _explain
from preprocessing.errors import InputError

PYTHON = """An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
: org.apache.spark.SparkException: Job aborted due to stage failure: Could not recover from a failed barrier.
Most recent failure reason: Stage failed because barrier task ResultTask(0, 1) finished unsuccessfully.
org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "gang_task.py", line 1, in run
    raise {error}
{error}

	at org.apache.spark.api.python.BasePythonRunner
"""


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        ("preprocessing.errors.InputError: data: gone; put it back", InputError, "data: gone; put it back"),
        ("preprocessing.errors.StorageError: cannot write x: full", GangStorageError, "cannot write x: full"),
        ("lottery.gang_task.ChildError: it died: a | b", GangError, "it died: a | b"),
        ("ZeroDivisionError: division by zero", GangError, "ZeroDivisionError: division by zero"),
    ],
)
def test_the_exceptions_own_line(error, kind, words):
    found = _explain(PYTHON.format(error=error))
    assert type(found) is kind
    assert str(found) == words


def test_a_java_exception_without_a_stage():
    message = "An error occurred while calling o1.x.\n: java.lang.IllegalStateException: shut down\n\tat a.B"
    assert str(_explain(message)) == "java.lang.IllegalStateException: shut down"


def test_a_stage_without_a_python_exception():
    message = "An error occurred.\n: org.apache.spark.SparkException: Job aborted due to stage failure: executor lost\n"
    assert str(_explain(message)) == "executor lost"


def test_no_words_at_all():
    assert str(_explain("")) == "Spark gave no reason"
