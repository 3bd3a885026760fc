"""Why Spark cannot start, in one line: its Java, its user, its folders, its version."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from preprocessing.common.errors import InputError

# The releases of Java that each version of Spark documents, from the version on that is named.
_JAVAS = {(3, 0): ("8", "11", "17"), (4, 0): ("17", "21"), (4, 2): ("17", "21", "25"), (5, 0): ()}
_PACKAGES = {
    3: "openjdk-17-jre-headless (Debian 12, Ubuntu) or java-17-openjdk-headless (RHEL, Fedora up to 41)",
    4: "openjdk-21-jre-headless (Debian 13, Ubuntu), openjdk-17-jre-headless (Debian 12) "
    "or java-21-openjdk-headless (Fedora, RHEL)",
}


def javas(spark: str) -> tuple[str, ...]:
    """The releases of Java that a Spark of this version, such as 3.5.3, runs on; empty if they are not known."""
    version = tuple(int(number) for number in spark.split(".")[:2])
    return next((fit for first, fit in reversed(_JAVAS.items()) if version >= first), ())


def java_options(spark: str) -> str:
    """An option with which this version of Spark starts Java, and which not every Java of a fitting release takes."""
    return "--add-modules=jdk.incubator.vector" if int(spark.split(".")[0]) >= 4 else ""


def install_java(spark: str) -> str:
    """The remedy where there is no Java for this version of Spark."""
    packages = _PACKAGES.get(int(spark.split(".")[0]))
    return (f"install {packages}, or " if packages else "") + "set JAVA_HOME to one"


def check_folders(configured: str | None, environment: Mapping[str, str]) -> None:
    """Raises InputError if Spark cannot write to any of its local folders: it would end the whole driver.

    Args:
        configured: the setting spark.local.dir.
    """
    # In Spark's own order; on YARN LOCAL_DIRS holds in containers alone.
    name = next((name for name in ("SPARK_EXECUTOR_DIRS", "SPARK_LOCAL_DIRS") if environment.get(name)), None)
    text = environment[name] if name else configured
    if text is None:
        return
    folders = [
        folder.strip() for folder in text.replace(os.pathsep if name == "SPARK_EXECUTOR_DIRS" else ",", ",").split(",")
    ]
    if not any(_writable(Path(folder)) for folder in folders):
        raise InputError(
            f"{name or 'spark.local.dir'}={text}: Spark cannot write to any of these; name one that it can"
        )


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def reason(why: str, spark: str, java: str, java_home: str, user: int) -> str:
    """The message for the Java exception `why` that kept Spark from starting.

    Args:
        spark, java: their versions, such as 3.5.3 and 17.0.9.
        user: the numeric id.
    """
    if "invalid null input: name" in why:
        return (
            f"user id {user} has no entry in /etc/passwd, where Spark looks for a name; add one "
            f"(name:x:{user}:0::/tmp:/bin/sh), or run as a user that has one"
        )
    refused = re.search(r"above the max threshold \((\d+) MB\)", why)
    if refused:
        return (
            f"YARN gives a container at most {refused[1]} MB, and spark.executor.memory and memoryOverhead (or "
            "spark.yarn.am.memory) ask for more; raise yarn.scheduler.maximum-allocation-mb and "
            f"yarn.nodemanager.resource.memory-mb, or ask for less ({why})"
        )
    fit = javas(spark)
    release = java.removeprefix("1.").split(".")[0].split("-")[0]
    if fit and release and release not in fit:
        return f"Java {java} in {java_home}: Spark {spark} runs on {', '.join(fit)}; {install_java(spark)} ({why})"
    return f"{why}; see the log above, and correct the setting or the master that it names"


def no_java(why: str, spark: str) -> str:
    """The message if no Java could be started for this version of Spark."""
    fit = ", ".join(javas(spark))
    return f"{why}; Spark {spark} runs on Java {fit}: {install_java(spark)}, and see the log above"


def mismatch(python: str, jvm: str, home: str | None) -> str | None:
    """The message if pyspark has started a Spark of another version, which it cannot control; else None."""
    if python.split(".")[:2] == jvm.split(".")[:2]:
        return None
    where = f" in SPARK_HOME={home}" if home else ""
    return (
        f"Spark {jvm}{where} with pyspark {python}: the two versions must be the same; unset SPARK_HOME and PYTHONPATH"
    )
