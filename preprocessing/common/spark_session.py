"""Starting and stopping Spark."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from preprocessing.common.clean_up import afterwards
from preprocessing.common.errors import InputError
from preprocessing.common.spark_start import check_folders, mismatch, no_java, reason

logger = logging.getLogger(__name__)

_WAIT_SECONDS = 30.0  # between the lines that report what YARN is waited for


@contextmanager
def spark_context(name: str) -> Iterator[Any]:
    """A Spark context as spark-submit configured it, stopped at the end; `InputError` if it cannot start."""
    from pyspark import SparkConf  # once every input is checked: this starts the JVM

    context = start(lambda: SparkConf().setAppName(name))
    with afterwards(lambda: stop(context)):
        yield context


def start(configuration: Callable[[], Any]) -> Any:
    """A Spark context with this configuration; `InputError` if it cannot start."""
    import pyspark
    from py4j.protocol import Py4JError
    from pyspark import SparkContext
    from pyspark.errors import PySparkException

    try:
        SparkContext._ensure_initialized()  # before this, a configuration does not have spark-submit's settings
        conf = configuration()
        check_folders(conf.get("spark.local.dir", None), os.environ)
        with waiting(conf.get("spark.master", None) or ""):
            context = SparkContext.getOrCreate(conf)
    except PySparkException as error:
        why = " ".join(str(error).split())
        raise InputError(f"Spark cannot start: {no_java(why, pyspark.__version__)}") from error
    except Py4JError as error:  # py4j names the call on the first line, and the JVM's exception after a colon
        why = next(
            (line[2:] for line in str(error).splitlines() if line.startswith(": ")), str(error).split("\n", 1)[0]
        )
        raise InputError(f"Spark cannot start: {reason(why, *_versions(), os.getuid())}") from error
    fault = mismatch(pyspark.__version__, context.version, os.environ.get("SPARK_HOME"))
    if fault:
        context.stop()
        raise InputError(fault)
    return context


def stop(context: Any) -> None:
    """Stops Spark, unless its JVM is gone, without what it would log of tasks that are still at work.

    The job has reported by then what matters, in the last line that a user sees.
    """
    from py4j.protocol import Py4JError

    with suppress(AttributeError, OSError, Py4JError):
        context.setLogLevel("OFF")  # of the whole JVM, which ends with the job
    with suppress(AttributeError, OSError, Py4JError):
        context.stop()


@contextmanager
def waiting(master: str, seconds: float = _WAIT_SECONDS) -> Iterator[None]:
    """While the block, which starts Spark on YARN, takes longer than this: a line of progress each time.

    Spark waits without a limit until YARN has room for the application, and logs it where nobody looks, at INFO.
    """
    if not master.startswith("yarn"):
        yield
        return
    ended = threading.Event()

    def report() -> None:
        waited = 0.0
        while not ended.wait(seconds):
            waited += seconds
            logger.info(
                "waiting for YARN to start the application, %.0f s so far: its queue may be full, or a machine is "
                "unpacking the environment; `yarn application -list` shows what is ahead",
                waited,
            )

    thread = threading.Thread(target=report, name="waiting for YARN", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()  # so that no line comes later


def _versions() -> tuple[str, str, str]:
    """The versions of Spark and Java, and Java's home; "" for what the JVM no longer answers."""
    import pyspark
    from py4j.protocol import Py4JError

    try:
        system = pyspark.SparkContext._jvm.java.lang.System
        return pyspark.__version__, str(system.getProperty("java.version")), str(system.getProperty("java.home"))
    except (AttributeError, Py4JError):
        return pyspark.__version__, "", ""
