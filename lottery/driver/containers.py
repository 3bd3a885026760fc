"""What YARN and Kubernetes give the container of an executor, by the settings of Spark and Hadoop. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping

_VIRTUAL_MEMORY_CHECK = "yarn.nodemanager.vmem-check-enabled"
_MOST_CORES = "yarn.scheduler.maximum-allocation-vcores"
HADOOP_SETTINGS = (_VIRTUAL_MEMORY_CHECK, _MOST_CORES)  # that `warnings` looks at

_MIB = 1 << 20
_UNITS = {"": _MIB, "b": 1, "k": 1 << 10, "m": _MIB, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_SMALLEST_OVERHEAD = "384m"
_LEAST = 512 * _MIB  # what TensorFlow takes before it has trained anything
_FACTORS = ("spark.executor.memoryOverheadFactor", "spark.kubernetes.memoryOverheadFactor")


def memory_for_tasks(settings: Mapping[str, str]) -> int | None:
    """Bytes that an executor's container leaves to what its tasks start; None if it has no limit, or none is known.

    The container also has the JVM's heap and its memory off the heap (`spark.memory.offHeap.size`), which tasks cannot
    use. Of the overhead the JVM takes a tenth of the heap, at least 384 MiB: Spark's own estimate.
    """
    if not settings.get("spark.master", "").startswith(("yarn", "k8s://")):
        return None
    try:
        return _outside_the_jvm(settings)
    except ValueError:  # such as a reference to another setting, which Spark follows
        return None


def _outside_the_jvm(settings: Mapping[str, str]) -> int:
    heap = _bytes(settings.get("spark.executor.memory", "1g"))
    least = _bytes(_SMALLEST_OVERHEAD)
    if "spark.executor.memoryOverhead" in settings:
        overhead = _bytes(settings["spark.executor.memoryOverhead"])
    else:
        factor = float(next((settings[name] for name in _FACTORS if name in settings), "0.1"))
        overhead = max(int(factor * heap), _bytes(settings.get("spark.executor.minMemoryOverhead", _SMALLEST_OVERHEAD)))
    python = _bytes(settings.get("spark.executor.pyspark.memory", "0"))
    return max(0, overhead + python - max(heap // 10, least))


def warnings(settings: Mapping[str, str], hadoop: Mapping[str, str]) -> list[str]:
    """One line for each setting with which YARN would kill executors, or refuse them, or TensorFlow could not start.

    Only warnings: `hadoop` is what the submitting machine's HADOOP_CONF_DIR says, and the cluster's machines may have
    other values. Each line ends with the remedy.
    """
    lines = _of_yarn(settings, hadoop) if settings.get("spark.master") == "yarn" else []
    left = memory_for_tasks(settings)
    if left is not None and left < _LEAST:
        lines.append(
            f"spark.executor.memoryOverhead is {settings.get('spark.executor.memoryOverhead', 'not set')}: it leaves "
            f"{left // _MIB} MiB of a container to training, and TensorFlow alone takes more; the container may be "
            "killed, and gang.bundle: auto trains one ticket at a time; set it to 16g, for example"
        )
    if "spark.executor.pyspark.memory" in settings:
        lines.append(
            f"spark.executor.pyspark.memory={settings['spark.executor.pyspark.memory']}: limits the address space of "
            "every process that a task starts, and TensorFlow maps far more than it uses; "
            "add it to spark.executor.memoryOverhead instead"
        )
    return lines


def _of_yarn(settings: Mapping[str, str], hadoop: Mapping[str, str]) -> list[str]:
    lines = []
    if hadoop.get(_VIRTUAL_MEMORY_CHECK) == "true":
        lines.append(
            f"{_VIRTUAL_MEMORY_CHECK}=true: YARN kills a container for the memory that TensorFlow maps, which is far "
            "more than it uses; set it to false in yarn-site.xml on every machine"
        )
    cores, most = settings.get("spark.executor.cores", "1"), hadoop.get(_MOST_CORES, "")
    if cores.isdigit() and most.isdigit() and int(cores) > int(most):
        lines.append(
            f"spark.executor.cores={cores}: YARN refuses containers of more than {_MOST_CORES}={most} cores, and ends "
            "the application; raise the limit in the ResourceManager's yarn-site.xml, or lower spark.executor.cores "
            "and spark.task.cpus"
        )
    return lines


def _bytes(size: str) -> int:
    """A size as Spark reads it: 16g, 512m, or MiB without a unit. Raises ValueError for anything else."""
    match = re.fullmatch(r"(\d+)([bkmgtp]?)b?", size.strip().lower())
    if match is None:
        raise ValueError(size)
    return int(match[1]) * _UNITS[match[2]]
