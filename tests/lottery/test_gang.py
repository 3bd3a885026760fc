"""What the driver makes of Spark's words when a stage fails."""

import pytest
from py4j.protocol import Py4JError
from pyspark import BarrierTaskInfo, SparkConf

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

    def getConf(self):  # noqa: N802 - Spark's
        return SparkConf(loadDefaults=False)


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

    for ask in (
        cancel,
        lambda context: wait_for_slots(context, 600.0),
        lambda context: gang.run_gang(context, 1, print),
    ):
        with pytest.raises(SparkEndedError, match="Spark has ended"):
            ask(Stopped())


class Registering:
    """Stands for a SparkContext whose executors, of `slots` each, are this many at each look, one a second."""

    def __init__(self, monkeypatch, counts, expected="", slots=1):
        self.counts, self.looks, self.expected, self.slots = counts, 0, expected, slots
        monkeypatch.setattr(gang, "_cluster", self.look)
        monkeypatch.setattr(gang, "time", self)

    def monotonic(self):
        return float(self.looks)

    def sleep(self, seconds):
        assert seconds == 1.0

    def getConf(self):  # noqa: N802 - Spark's
        conf = SparkConf(loadDefaults=False)
        return conf.set("spark.executor.instances", self.expected) if self.expected else conf

    def look(self, context):
        count = self.counts[min(self.looks, len(self.counts) - 1)]
        self.looks += 1
        return gang._Cluster(count * self.slots, count, is_local=False)


@pytest.mark.parametrize(
    ("counts", "expected", "last", "settle", "slots", "looks"),
    [
        ([0, 1, 2, 2, 3], "", 0, False, 3, 9),  # five times the same
        ([0, 1, 2, 2, 3], "3", 0, False, 3, 5),
        ([2, 2, 2, 2, 2, 2, 3], "3", 0, False, 3, 7),  # a pause is no end
        ([4, 4, 4, 3], "", 4, False, 4, 1),
        ([4, 3, 3, 3, 3, 3, 3], "3", 0, True, 3, 6),  # one was about to go
        ([4, 4, 3], "", 0, True, 3, 7),
        ([0] * 500 + [3], "3", 0, False, 3, 501),  # an archive that takes minutes to arrive
        ([1], "2", 0, False, 1, 600),
        ([1], "2", 0, True, 1, 120),  # after a failure the others are idle meanwhile
    ],
)
def test_executors_are_waited_for(monkeypatch, counts, expected, last, settle, slots, looks):
    cluster = Registering(monkeypatch, counts, expected)
    assert wait_for_slots(cluster, 600.0, last, settle) == slots
    assert cluster.looks == looks


def test_executors_are_not_waited_for_for_ever(monkeypatch):
    with pytest.raises(InputError, match="^no executor had registered after 600 s; .* raise gang.wait_for_executors$"):
        wait_for_slots(Registering(monkeypatch, [0]), 600.0)


def test_executors_without_a_slot_are_told_from_none(monkeypatch):
    says = (
        r"^2 of 4 executors have registered, with 0 slots for tasks, after 600 s; check that spark\.task\.cpus and "
        r"spark\.task\.resource\.\* ask for no more than spark\.executor\.\* give$"
    )
    with pytest.raises(InputError, match=says) as caught:
        wait_for_slots(Registering(monkeypatch, [2], "4", slots=0), 600.0)
    assert type(caught.value) is InputError


def test_what_is_awaited_is_logged(monkeypatch, caplog):
    caplog.set_level("INFO", "lottery")
    assert wait_for_slots(Registering(monkeypatch, [0] * 40 + [1], "2"), 100.0) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "waiting for executors, for 70 s more at most: 0 of 2 executors have registered, with 0 slots for tasks",
        "waiting for executors, for 40 s more at most: 1 of 2 executors have registered, with 1 slot for tasks",
        "waiting for executors, for 10 s more at most: 1 of 2 executors have registered, with 1 slot for tasks",
        "1 of 2 executors have registered, with 1 slot for tasks; going on without the others",
    ]
    caplog.clear()
    assert wait_for_slots(Registering(monkeypatch, [0] * 40 + [1]), 100.0) == 1
    assert "more at most: 0 executors have registered" in caplog.text


class Inline:
    """Stands for a SparkContext with these settings that runs the tasks here, on two executors of two tasks each."""

    def __init__(self, monkeypatch, **settings):
        self.conf = SparkConf(loadDefaults=False).setAll([(f"spark.{name}", text) for name, text in settings.items()])
        monkeypatch.setattr(gang.BarrierTaskContext, "get", lambda: self)
        monkeypatch.setattr(gang.log, "configure", lambda: None)

    def getConf(self):  # noqa: N802 - Spark's
        return self.conf

    def parallelize(self, items, tasks):
        self.tasks = tasks
        return self

    def barrier(self):
        return self

    def mapPartitions(self, task):  # noqa: N802 - Spark's
        self.task = task
        return self

    def collect(self):
        rows = []
        for rank in range(self.tasks):
            self.rank = rank
            rows += self.task(iter(()))
        return rows

    def getTaskInfos(self):  # noqa: N802 - Spark's
        return [BarrierTaskInfo(f"host:{rank // 2}") for rank in range(self.tasks)]

    def partitionId(self):  # noqa: N802 - Spark's
        return self.rank

    def resources(self):
        return {}

    def cpus(self):
        return 3


def test_a_task_knows_its_share_of_its_executors_container(monkeypatch):
    on_yarn = {"master": "yarn", "executor.memory": "2g", "executor.memoryOverhead": "8576m"}
    places = gang.run_gang(Inline(monkeypatch, **on_yarn), 4, lambda placement: placement)
    assert [place.memory for place in places] == [4 << 30] * 4
    assert [(place.executor, place.tasks_on_host, place.cores) for place in places[1:3]] == [
        ("host:0", 4, 3),
        ("host:1", 4, 3),
    ]
    on_machines = gang.run_gang(
        Inline(monkeypatch, **{**on_yarn, "master": "spark://host:7077"}), 1, lambda place: place
    )
    assert on_machines[0].memory is None
