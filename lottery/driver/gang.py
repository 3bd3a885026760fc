"""The gang: one Spark barrier stage whose tasks train, each on its executor's GPUs."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import msgspec
from py4j.protocol import Py4JError
from pyspark import BarrierTaskContext, SparkContext
from pyspark.errors import PySparkException

from lottery.driver.containers import memory_for_tasks
from lottery.executor.rendezvous import meet
from lottery.protocol import TaskPlacement
from preprocessing.common import log
from preprocessing.common.errors import Failure, InputError, Kind, StorageError
from preprocessing.common.spark_errors import ENDED, driver_failure, reported, task_failure

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SETTLE = 120.0  # seconds, at most, for a lost executor to be replaced: the others are idle meanwhile
_SLOTS_STABLE = 5  # polls in a row with the same number of slots
_TELL_EVERY = 30.0  # seconds


class GangError(Exception):
    """The stage failed: a task or an executor died. What was written stays; the rest can be planned again."""


class SparkEndedError(GangError):
    """Spark itself has ended, and nothing more can run on it: it was shut down, or its process was killed."""


class GangGpuError(GangError):
    """The stage failed because of a GPU that Spark has and a task does not see."""


def wait_for_slots(context: SparkContext, seconds: float, last: int = 0, settle: bool = False) -> int:
    """How many tasks can run at once, after executors have stopped registering; without a wait if it is still `last`.

    Right after the start the number is 0 and grows. A barrier stage that needs more slots than there are would fail
    only after ten minutes. If `spark.executor.instances` is set, this waits up to `seconds` for that number of
    executors, and goes on with those that there are then. With `settle`, after a failure, it waits until the number
    stays the same, as an executor may be about to go, and for two minutes at most. What is awaited is logged.

    Raises InputError if no executor registers, or none has a slot, SparkEndedError if Spark has ended.
    """
    seconds = min(seconds, _SETTLE) if settle else seconds
    expected = int(settings(context).get("spark.executor.instances", "0"))
    began = told = time.monotonic()
    history: list[int] = []
    while (now := time.monotonic()) < began + seconds:
        state = _cluster(context)
        history.append(state.slots)
        stable = len(history) >= _SLOTS_STABLE and len(set(history[-_SLOTS_STABLE:])) == 1
        complete = state.executors >= expected and (stable or bool(expected and not settle))
        if state.slots and (state.is_local or state.slots == last or complete):
            return state.slots
        if now - told >= _TELL_EVERY:
            told = now
            logger.info(_awaited(state, expected, began + seconds - now))
        time.sleep(1.0)
    if history[-1]:
        logger.warning("%s; going on without the others", _registered(state, expected))
        return history[-1]
    if state.executors:
        raise InputError(
            f"{_registered(state, expected)}, after {seconds:.0f} s; check that spark.task.cpus and "
            "spark.task.resource.* ask for no more than spark.executor.* give"
        )
    raise InputError(
        f"no executor had registered after {seconds:.0f} s; check the cluster manager, and that it can give what "
        "spark.executor.* ask for; if it only takes longer, as large archives do, raise gang.wait_for_executors"
    )


def _awaited(state: _Cluster, expected: int, left: float) -> str:
    return f"waiting for executors, for {left:.0f} s more at most: {_registered(state, expected)}"


def _registered(state: _Cluster, expected: int) -> str:
    of = f" of {expected}" if expected else ""
    slots = f"{state.slots} slot" + ("s" if state.slots != 1 else "")
    return f"{state.executors}{of} executors have registered, with {slots} for tasks"


class _Cluster(NamedTuple):
    slots: int  # tasks that can run at once just now
    executors: int  # registered
    is_local: bool  # whether tasks run in the driver's own JVM


def _cluster(context: SparkContext) -> _Cluster:
    with _alive():
        jvm: Any = context._jsc
        spark = jvm.sc()
        profile = spark.resourceProfileManager().defaultResourceProfile()
        executors = int(spark.getExecutorMemoryStatus().size()) - 1  # the driver is in it
        return _Cluster(int(spark.maxNumConcurrentTasks(profile)), executors, bool(spark.isLocal()))


def settings(context: SparkContext) -> dict[str, str]:
    """All settings of a context. Raises SparkEndedError if Spark has ended."""
    with _alive():
        return dict(context.getConf().getAll())


def hadoop_settings(context: SparkContext, names: Iterable[str]) -> dict[str, str]:
    """What the driver's Hadoop configuration says, by HADOOP_CONF_DIR's files or Hadoop's defaults, if it has a value.

    Raises SparkEndedError if Spark has ended.
    """
    with _alive():
        jvm: Any = context._jsc
        configuration = jvm.hadoopConfiguration()
        found = {name: configuration.get(name) for name in names}
        return {name: str(value) for name, value in found.items() if value is not None}


@contextmanager
def _alive() -> Iterator[None]:
    """Raises SparkEndedError if the block finds no JVM, or one that does not answer."""
    try:
        yield
    except (AttributeError, Py4JError) as error:
        raise SparkEndedError(ENDED) from error


def is_local(context: SparkContext) -> bool:
    """Whether all tasks run in the driver's own JVM, as one executor."""
    return bool(re.fullmatch(r"local(\[.*\])?", context.master))


def run_gang(
    context: SparkContext,
    tasks: int,
    work: Callable[[TaskPlacement], T],
    together: int = 1,
    ports: tuple[int, int] = (0, 0),
) -> list[T]:
    """Runs `work` in each task of one barrier stage and returns what the tasks return, which should be little.

    Each `together` tasks in turn are a group, and know each other's endpoints, whose ports are within `ports`.

    Raises InputError for bad input that a task met, StorageError if storage failed, SparkEndedError if Spark has ended,
    GangGpuError if a GPU is lost, else GangError: Spark never retries a barrier stage that is collected.
    """
    memory = memory_for_tasks(settings(context))

    def task(_: Iterator[int]) -> Iterator[T | Failure]:
        try:
            log.configure()
            barrier = BarrierTaskContext.get()
            yield _work(barrier, _placement(barrier, memory), work, together, ports)
        except Exception as error:
            failure = task_failure(error)
            if tasks > 1 or failure.kind is Kind.OTHER:  # the other tasks have to be stopped, or a traceback is wanted
                with reported():
                    raise
            yield failure  # Spark would log a traceback of what is raised

    try:
        rows: list[T | Failure] = context.parallelize(range(tasks), tasks).barrier().mapPartitions(task).collect()
    except (AttributeError, PySparkException, Py4JError, OSError) as error:
        raise _as_error(driver_failure(error)) from error
    for row in rows:
        if isinstance(row, Failure):
            raise _as_error(row)
    return [row for row in rows if not isinstance(row, Failure)]


def _work(
    barrier: BarrierTaskContext,
    placement: TaskPlacement,
    work: Callable[[TaskPlacement], T],
    together: int,
    ports: tuple[int, int],
) -> T:
    if together == 1:
        return work(placement)
    with meet(barrier.allGather, placement.host, placement.task, ports) as endpoints:
        first = placement.task - placement.task % together
        return work(msgspec.structs.replace(placement, endpoints=endpoints[first : first + together]))


def _as_error(failure: Failure) -> Exception:
    kinds: dict[Kind, type[Exception]] = {
        Kind.BAD_INPUT: InputError,
        Kind.STORAGE: StorageError,
        Kind.GPU_LOST: GangGpuError,
        Kind.SPARK_ENDED: SparkEndedError,
    }
    return kinds.get(failure.kind, GangError)(failure.message)


def cancel(context: SparkContext) -> None:
    """Ends whatever still runs of a failed stage, before another starts.

    Raises SparkEndedError if Spark has ended.
    """
    with _alive():
        context.cancelAllJobs()


def _placement(context: BarrierTaskContext, memory: int | None) -> TaskPlacement:
    """Where a task runs; `memory` is what its executor's container leaves to all tasks there."""
    # Neither barrier() nor, if every task trains alone, allGather(): the first of them starts a timer thread in the
    # JVM that is not a daemon (Spark 3.5), and in local mode, where executor and driver are one JVM, spark-submit then
    # never ends.
    executors = [info.address for info in context.getTaskInfos()]
    hosts = [executor.rsplit(":", 1)[0] for executor in executors]
    rank = context.partitionId()
    gpus = context.resources().get("gpu")
    return TaskPlacement(
        task=rank,
        executor=executors[rank],
        host=hosts[rank],
        gpus=() if gpus is None else tuple(gpus.addresses),
        cores=context.cpus(),
        tasks=len(executors),
        tasks_on_host=hosts.count(hosts[rank]),
        memory=None if memory is None else memory // executors.count(executors[rank]),
    )
