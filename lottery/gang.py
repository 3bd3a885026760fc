"""The gang: one Spark barrier stage whose tasks train, each on its executor's GPUs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from py4j.protocol import Py4JError
from pyspark import BarrierTaskContext, SparkContext
from pyspark.errors import PySparkException

from lottery.gang_task import ChildError, Place
from preprocessing.errors import InputError

T = TypeVar("T")

_SLOTS_TIMEOUT = 120.0  # seconds for executors to register
_SLOTS_STABLE = 3  # polls in a row with the same number of slots


class GangError(Exception):
    """The stage failed: a task or an executor died. What was written stays; what is left can be planned anew."""


def wait_for_slots(context: SparkContext) -> int:
    """How many tasks can run at once, when executors have stopped registering.

    Right after the start the number is 0 and grows; a barrier stage that needs more slots than there are would wait
    ten minutes to say so. Raises InputError where no executor registers, GangError where Spark has ended.
    """
    deadline = time.monotonic() + _SLOTS_TIMEOUT
    history: list[int] = []
    while time.monotonic() < deadline:
        slots, is_local = _slots(context)
        history.append(slots)
        settled = len(history) >= _SLOTS_STABLE and len(set(history[-_SLOTS_STABLE:])) == 1
        if slots and (settled or is_local):
            return slots
        time.sleep(1.0)
    raise InputError(
        f"no executor had registered after {_SLOTS_TIMEOUT:.0f} s; "
        "check the cluster manager, and that it can give what spark.executor.* ask for"
    )


def _slots(context: SparkContext) -> tuple[int, bool]:
    """How many tasks can run at once just now, and whether they run in the driver's own JVM."""
    try:
        jvm: Any = context._jsc
        spark = jvm.sc()
        profile = spark.resourceProfileManager().defaultResourceProfile()
        return int(spark.maxNumConcurrentTasks(profile)), bool(spark.isLocal())
    except (AttributeError, Py4JError) as error:
        raise GangError(f"Spark has ended: {str(error).splitlines()[0]}") from error


def run_gang(context: SparkContext, tasks: int, work: Callable[[Place], T]) -> list[T]:
    """Runs `work` in each task of one barrier stage and returns what the tasks return, which should be little.

    Raises InputError where a task met bad input, GangError where a task or its executor died: Spark never retries a
    barrier stage that is collected.
    """

    def task(_: Iterator[int]) -> Iterator[T]:
        yield work(_place(BarrierTaskContext.get()))

    try:
        rows: list[T] = context.parallelize(range(tasks), tasks).barrier().mapPartitions(task).collect()
        return rows
    except (PySparkException, Py4JError) as error:
        raise _explain(str(error)) from error


def _place(context: BarrierTaskContext) -> Place:
    # Neither barrier() nor allGather(): the first of them starts a timer thread in the JVM that is no daemon (Spark
    # 3.5), and in local mode, where executor and driver are one JVM, spark-submit then never ends.
    executors = [info.address for info in context.getTaskInfos()]
    hosts = [executor.rsplit(":", 1)[0] for executor in executors]
    rank = context.partitionId()
    gpus = context.resources().get("gpu")
    return Place(
        task=rank,
        executor=executors[rank],
        host=hosts[rank],
        gpus=() if gpus is None else tuple(gpus.addresses),
        cores=context.cpus(),
        tasks_on_host=hosts.count(hosts[rank]),
    )


def _explain(message: str) -> Exception:
    """The error to raise for what Spark says of a failed stage: the Python exception's own line, if there is one."""
    found = re.search(rf"(?:\w+\.)*({InputError.__name__}|{ChildError.__name__}): (.*)", message)
    if found and found[1] == InputError.__name__:
        return InputError(found[2])
    if found:
        return GangError(found[2])
    reason = re.search(r"Job aborted due to stage failure: (.*)", message) or re.search(r"\S.*", message)
    return GangError(reason[0] if reason else "Spark gave no reason")
