"""What the driver makes of Spark's words when a stage fails."""

import pytest
from py4j.protocol import Py4JError

from lottery.driver import gang
from lottery.driver.gang import GangError, GangGpuError, SparkEndedError, cancel, wait_for_slots
from lottery.executor.supervisor import ChildError
from lottery.executor.task import GpuLostError
from preprocessing.common.errors import InputError, StorageError
from tests.preprocessing.spark_texts import BARRIER, spark_text


class Failing:
    """Stands for a SparkContext on which every stage ends with this error."""

    def __init__(self, error):
        self.error = error

    def parallelize(self, *_):
        raise self.error


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (InputError("data: gone; put it back"), InputError, "data: gone; put it back"),
        (StorageError("cannot write x: full"), StorageError, "cannot write x: full"),
        (OSError(28, "", "/tmp/x"), StorageError, "cannot use /tmp/x: No space left on device; free some space"),
        (GpuLostError("executor h:1: no GPU"), GangGpuError, "executor h:1: no GPU"),
        (ChildError("it died: a | b"), GangError, "it died: a | b"),
        (ZeroDivisionError("division by zero"), GangError, "ZeroDivisionError: division by zero"),
    ],
)
def test_what_a_task_raises_keeps_its_kind(raised, kind, words):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its type is compared
        gang.run_gang(Failing(Py4JError(spark_text(raised, BARRIER))), 2, print)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    "words",
    [
        "org.apache.spark.SparkException: Job 1 cancelled because SparkContext was shut down",
        "java.lang.IllegalStateException: Cannot call methods on a stopped SparkContext.",
    ],
)
def test_a_spark_that_has_ended_is_told_apart_from_a_stage_that_failed(words):
    with pytest.raises(SparkEndedError):
        gang.run_gang(Failing(Py4JError(f"An error occurred while calling o1.x.\n: {words}\n\tat a.B")), 2, print)


def test_a_context_without_its_jvm_has_ended():
    class Stopped:
        """Stands for a SparkContext after `stop`, whose calls fail by an attribute of None."""

        def __getattr__(self, name):
            raise AttributeError(name)

    for ask in (cancel, wait_for_slots, lambda context: gang.run_gang(context, 1, print)):
        with pytest.raises(SparkEndedError, match="Spark has ended"):
            ask(Stopped())


class Registering:
    """Stands for a SparkContext whose executors, of one slot each, are so many at each look."""

    def __init__(self, monkeypatch, counts, expected=""):
        self.counts, self.looks, self.expected = counts, 0, expected
        monkeypatch.setattr(gang, "_cluster", self.look)
        monkeypatch.setattr(gang.time, "sleep", lambda seconds: None)

    def getConf(self):  # noqa: N802 - Spark's
        return {"spark.executor.instances": self.expected} if self.expected else {}

    def look(self, context):
        count = self.counts[min(self.looks, len(self.counts) - 1)]
        self.looks += 1
        return gang._Cluster(count, count, is_local=False)


@pytest.mark.parametrize(
    ("counts", "expected", "last", "settle", "slots", "looks"),
    [
        ([0, 1, 2, 2, 3], "", 0, False, 3, 9),  # five times the same
        ([0, 1, 2, 2, 3], "3", 0, False, 3, 5),
        ([2, 2, 2, 2, 2, 2, 3], "3", 0, False, 3, 7),  # a pause is no end
        ([4, 4, 4, 3], "", 4, False, 4, 1),
        ([4, 3, 3, 3, 3, 3, 3], "3", 0, True, 3, 6),  # one was about to go
        ([4, 4, 3], "", 0, True, 3, 7),
    ],
)
def test_executors_are_waited_for(monkeypatch, counts, expected, last, settle, slots, looks):
    cluster = Registering(monkeypatch, counts, expected)
    assert wait_for_slots(cluster, last, settle) == slots
    assert cluster.looks == looks


@pytest.mark.parametrize(("counts", "expected"), [([0], ""), ([1], "2")])
def test_executors_are_not_waited_for_for_ever(monkeypatch, counts, expected):
    monkeypatch.setattr(gang, "_SLOTS_TIMEOUT", 0.05)
    cluster = Registering(monkeypatch, counts, expected)
    if counts == [0]:
        with pytest.raises(InputError, match="no executor had registered"):
            wait_for_slots(cluster)
    else:
        assert wait_for_slots(cluster) == 1
