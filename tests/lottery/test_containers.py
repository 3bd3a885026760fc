"""What the container of an executor leaves to its tasks, and the settings with which YARN would end it."""

from __future__ import annotations

import pytest

from lottery.driver.containers import HADOOP_SETTINGS, memory_for_tasks, warnings
from tests.platforms.properties import CLUSTERS, path, settings

GIB, MIB = 1 << 30, 1 << 20
YARN = {"spark.master": "yarn", "spark.executor.memory": "2g"}
ENOUGH = {**YARN, "spark.executor.memoryOverhead": "16g"}
KUBERNETES = {"spark.master": "k8s://https://host:443", "spark.executor.memory": "2g"}


@pytest.mark.parametrize(
    ("more", "mebibytes"),
    [
        ({"spark.executor.memoryOverhead": "16g"}, 16 * 1024 - 384),
        ({"spark.executor.memoryOverhead": "16384"}, 16 * 1024 - 384),
        ({"spark.executor.memoryOverhead": "16GB", "spark.executor.memory": "5120m"}, 16 * 1024 - 512),
        ({"spark.executor.memoryOverhead": "2g", "spark.executor.memoryOverheadFactor": "9"}, 2048 - 384),
        ({"spark.executor.memoryOverheadFactor": "4.0"}, 8 * 1024 - 384),
        ({"spark.executor.memoryOverhead": "1g", "spark.executor.pyspark.memory": "6g"}, 7 * 1024 - 384),
        # Off the heap the JVM is alone: the container has it besides.
        ({"spark.executor.memoryOverhead": "1g", "spark.memory.offHeap.size": "6g"}, 1024 - 384),
        ({}, 0),  # a tenth of 2 GiB, at least 384 MiB, which the JVM itself needs
        ({"spark.executor.minMemoryOverhead": "1g"}, 1024 - 384),
    ],
)
def test_a_container_has_the_overhead_for_its_tasks(more, mebibytes):
    assert memory_for_tasks({**YARN, **more}) == mebibytes * MIB
    assert memory_for_tasks({**KUBERNETES, **more}) == mebibytes * MIB


def test_kubernetes_has_a_factor_of_its_own():
    own = {"spark.kubernetes.memoryOverheadFactor": "0.4", "spark.executor.memory": "10g"}
    assert memory_for_tasks({**KUBERNETES, **own}) == 3 * GIB
    assert memory_for_tasks({**KUBERNETES, **own, "spark.executor.memoryOverheadFactor": "0.2"}) == GIB


@pytest.mark.parametrize("master", ["local[2]", "spark://host:7077", "local-cluster[2,1,1024]"])
def test_other_masters_set_no_limit(master):
    assert memory_for_tasks({**YARN, "spark.master": master, "spark.executor.memoryOverhead": "1g"}) is None
    assert memory_for_tasks({}) is None


def test_a_setting_that_refers_to_another_is_not_followed():
    assert memory_for_tasks({**YARN, "spark.executor.memoryOverhead": "${some.other}"}) is None


@pytest.mark.parametrize("platform", CLUSTERS)
def test_the_files_of_the_platforms_leave_tasks_nearly_all_of_the_overhead(platform):
    left = memory_for_tasks({**dict(settings(path(platform).read_text())), "spark.master": "yarn"})
    assert left is not None
    assert left == (0 if platform == "standalone" else 16 * GIB - 384 * MIB)


def test_yarns_check_of_virtual_memory_is_a_warning_with_its_remedy():
    (line,) = warnings(ENOUGH, {"yarn.nodemanager.vmem-check-enabled": "true"})
    assert line.startswith("yarn.nodemanager.vmem-check-enabled=true: YARN kills a container for the memory that ")
    assert line.endswith("set it to false in yarn-site.xml on every machine")
    assert warnings(ENOUGH, {"yarn.nodemanager.vmem-check-enabled": "false"}) == []
    assert warnings(ENOUGH, {}) == []


def test_more_cores_than_yarn_gives_a_container_are_a_warning():
    four = {"yarn.scheduler.maximum-allocation-vcores": "4"}
    (line,) = warnings({**ENOUGH, "spark.executor.cores": "6"}, four)
    assert line.startswith("spark.executor.cores=6: YARN refuses containers of more than ")
    assert "yarn.scheduler.maximum-allocation-vcores=4 cores" in line
    assert warnings({**ENOUGH, "spark.executor.cores": "4"}, four) == warnings(ENOUGH, four) == []


@pytest.mark.parametrize(("overhead", "says"), [(None, "not set"), ("384m", "384m"), ("895m", "895m")])
@pytest.mark.parametrize("cluster", [YARN, KUBERNETES])
def test_a_container_without_room_for_tensorflow_is_a_warning(cluster, overhead, says):
    """Otherwise `gang.bundle: auto` would train one ticket at a time without a word."""
    given = {} if overhead is None else {"spark.executor.memoryOverhead": overhead}
    (line,) = warnings({**cluster, **given}, {})
    assert line.startswith(f"spark.executor.memoryOverhead is {says}: it leaves ")
    assert "gang.bundle: auto trains one ticket at a time; set it to 16g, for example" in line
    assert warnings({**cluster, "spark.executor.memoryOverhead": "896m"}, {}) == []


@pytest.mark.parametrize("master", ["yarn", "spark://host:7077", "k8s://https://host:443"])
def test_a_limit_of_the_address_space_is_a_warning(master):
    """Spark sets it with every cluster manager."""
    (line,) = warnings({"spark.master": master, "spark.executor.pyspark.memory": "8g"}, {})  # counts as overhead
    assert line.startswith("spark.executor.pyspark.memory=8g: limits the address space of every process ")


def test_only_on_yarn_are_its_settings_warned_of():
    found = dict.fromkeys(HADOOP_SETTINGS, "true")
    assert warnings({**YARN, "spark.master": "local[2]"}, found) == warnings({}, found) == []
