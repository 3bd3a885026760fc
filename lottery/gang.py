"""The gang: one Spark barrier stage whose tasks train, each on its executor's GPUs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from pyspark import BarrierTaskContext, SparkConf, SparkContext
from pyspark.errors import PySparkException

from lottery.gang_task import ChildError, Place
from preprocessing.errors import InputError

_SLOTS_TIMEOUT = 120.0  # seconds for executors to register
_SLOTS_STABLE = 3  # polls in a row with the same number of slots


class GangError(Exception):
    """The stage failed: a task or an executor died. What was written stays; what is left can be planned anew."""


class Row(NamedTuple):
    """What a task returns to the driver; its artefacts are in the run directory."""

    task: int
    executor: str
    trained: int


def check_settings(conf: SparkConf) -> None:
    """Raises InputError for Spark settings with which a gang cannot run, each with the setting that mends it."""
    if conf.get("spark.dynamicAllocation.enabled", "false") == "true":
        raise InputError(
            "spark.dynamicAllocation.enabled=true: Spark refuses barrier stages with it; "
            "set it to false and spark.executor.instances to the number of executors"
        )
    if conf.get("spark.speculation", "false") == "true":
        raise InputError("spark.speculation=true: would train a ticket twice at once; set it to false")
    amount = conf.get("spark.task.resource.gpu.amount")
    if amount is not None and not re.fullmatch(r"[1-9][0-9]*", amount):
        raise InputError(
            f"spark.task.resource.gpu.amount={amount}: hands one GPU to several tasks; set it to a whole number"
        )


def wait_for_slots(context: SparkContext) -> int:
    """How many tasks can run at once, when executors have stopped registering.

    Right after the start the number is 0 and grows; a barrier stage that needs more slots than there are would wait
    ten minutes to say so.
    """
    jvm: Any = context._jsc
    spark = jvm.sc()
    profile = spark.resourceProfileManager().defaultResourceProfile()
    deadline = time.monotonic() + _SLOTS_TIMEOUT
    history: list[int] = []
    while time.monotonic() < deadline:
        history.append(int(spark.maxNumConcurrentTasks(profile)))
        settled = history[-1] > 0 and len(set(history[-_SLOTS_STABLE:])) == 1 and len(history) >= _SLOTS_STABLE
        if settled or (history[-1] > 0 and spark.isLocal()):
            return history[-1]
        time.sleep(1.0)
    raise InputError(
        f"no executor had registered after {_SLOTS_TIMEOUT:.0f} s; "
        "check the cluster manager, and that it can give what spark.executor.* ask for"
    )


def run_gang(context: SparkContext, tasks: int, work: Callable[[Place], int]) -> Sequence[Row]:
    """Runs `work` in each task of one barrier stage and returns the tasks' rows.

    Raises InputError where a task met bad input, GangError where a task or its executor died: Spark never retries a
    barrier stage that is collected.
    """

    def task(_: Iterator[int]) -> Iterator[Row]:
        place = _place(BarrierTaskContext.get())
        yield Row(place.task, place.executor, work(place))

    try:
        rows: list[Row] = context.parallelize(range(tasks), tasks).barrier().mapPartitions(task).collect()
        return rows
    except PySparkException as error:
        raise _explain(str(error)) from error
    except Exception as error:
        if type(error).__module__.startswith("py4j"):
            raise _explain(str(error)) from error
        raise


def _place(context: BarrierTaskContext) -> Place:
    executors = [info.address for info in context.getTaskInfos()]
    rank = context.partitionId()
    host = _host(executors[rank])
    gpus = context.resources().get("gpu")
    addresses = () if gpus is None else tuple(gpus.addresses)
    if addresses:
        # Not without GPUs, as in local mode: the first allGather starts a timer in the JVM that is no daemon thread
        # (Spark 3.5), and where executor and driver are one JVM, spark-submit then never ends.
        _check_distinct(context.allGather("\n".join(f"{host} GPU {address}" for address in addresses)))
    return Place(rank, executors[rank], addresses, context.cpus(), [_host(each) for each in executors].count(host))


def _check_distinct(gpus_of_tasks: Sequence[str]) -> None:
    claimed = [gpu for gpus in gpus_of_tasks for gpu in gpus.splitlines()]
    for gpu in claimed:
        if claimed.count(gpu) > 1:
            raise InputError(
                f"{gpu} was handed to two tasks; set spark.task.resource.gpu.amount to a whole number and check the "
                "discovery script"
            )


def _host(address: str) -> str:
    return address.rsplit(":", 1)[0]


def _explain(message: str) -> Exception:
    """The error to raise for what Spark says of a failed stage: the Python exception's own line, if there is one."""
    found = re.search(rf"(?:\w+\.)*({InputError.__name__}|{ChildError.__name__}): (.*)", message)
    if found and found[1] == InputError.__name__:
        return InputError(found[2])
    if found:
        return GangError(found[2])
    reason = re.search(r"Job aborted due to stage failure: (.*)", message) or re.search(r"\S.*", message)
    return GangError(reason[0] if reason else "Spark gave no reason")
