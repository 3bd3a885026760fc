"""conf/spark/*.conf: each setting has its reason and is known to Spark, and a gang can run with all of them.

tests/cluster runs jobs with local.conf, test_secured_cluster.py with standalone.conf, and yarn/ with yarn.conf.
"""

from __future__ import annotations

import re
import zipfile
from functools import cache
from pathlib import Path

import pyspark
import pytest

from lottery.driver.preflight import setting_problems
from tests.platforms.properties import CLUSTERS, LOCAL, path, preprocessing_options, settings

CODE = ("spark-core", "spark-network-common", "spark-yarn", "spark-launcher")  # jars with the settings' names


def read(platform: str) -> dict[str, str]:
    return dict(settings(path(platform).read_text()))


def test_there_are_no_others() -> None:
    assert {file.stem for file in path(LOCAL).parent.glob("*.conf")} == {LOCAL, *CLUSTERS}


@pytest.mark.parametrize("platform", [LOCAL, *CLUSTERS])
def test_every_setting_is_there_once_and_has_its_reason(platform: str) -> None:
    text = path(platform).read_text()
    names = [name for name, _ in settings(text)]
    assert len(names) == len(set(names))
    assert all(name.startswith("spark.") for name in names)
    for paragraph in text.split("\n\n"):
        assert paragraph.lstrip().startswith("#")


@pytest.mark.parametrize("platform", [LOCAL, *CLUSTERS])
def test_a_gang_can_run_with_them(platform: str) -> None:
    assert setting_problems(read(platform)) == []


@pytest.mark.parametrize("platform", [LOCAL, *CLUSTERS])
def test_spark_knows_every_setting(platform: str) -> None:
    # Except those with composed names, and those that Spark passes on to Hadoop.
    composed = r".*\.resource\.gpu\.|spark\.(executorEnv|yarn\.appMasterEnv|hadoop)\."
    names = [name for name in read(platform) if not re.match(composed, name)]
    assert [name for name in names if name.encode() not in known()] == []


@cache
def known() -> bytes:
    """The constants of the classes that define Spark's settings."""
    found = []
    for jar in (Path(pyspark.__file__).parent / "jars").glob("*.jar"):
        if jar.name.startswith(CODE):
            with zipfile.ZipFile(jar) as archive:
                names = [name for name in archive.namelist() if re.search("onfig|TransportConf|SparkLauncher", name)]
                found += [archive.read(name) for name in names]
    return b"\n".join(found)


@pytest.mark.parametrize("platform", CLUSTERS)
def test_a_task_has_a_whole_executor_and_its_gpu(platform: str) -> None:
    found = read(platform)
    assert found["spark.executor.resource.gpu.amount"] == found["spark.task.resource.gpu.amount"] == "1"
    assert found["spark.task.cpus"] == found["spark.executor.cores"]
    scripts = [value for name, value in found.items() if name.endswith("discoveryScript")]
    assert [script for script in scripts if not script.endswith("/conf/gpu_discovery.sh")] == []
    assert len(scripts) == 1


def test_yarn_sends_the_environment_once() -> None:
    """Spark's own file server sends spark.archives a second time, to each executor."""
    found = read("yarn")
    assert "spark.archives" not in found
    archive, _, name = found["spark.yarn.dist.archives"].partition("#")
    assert archive.startswith("hdfs:///")  # so that the machines may keep it
    assert found["spark.pyspark.python"].startswith(f"./{name}/")


@pytest.mark.parametrize("platform", ["yarn", "emr"])
def test_no_client_of_the_timeline_service_is_needed(platform: str) -> None:
    assert read(platform)["spark.hadoop.yarn.timeline-service.enabled"] == "false"


@pytest.mark.parametrize("platform", CLUSTERS)
def test_who_does_not_know_the_secret_is_kept_out(platform: str) -> None:
    found = read(platform)
    for name in ("spark.authenticate", "spark.network.crypto.enabled", "spark.io.encryption.enabled"):
        assert found[name] == "true"
    assert found["spark.network.crypto.saslFallback"] == "false"
    assert not [name for name in found if re.search("secret|password|token|key$", name)]


@pytest.mark.parametrize("platform", CLUSTERS)
def test_preprocessing_takes_no_gpu(platform: str) -> None:
    options = preprocessing_options(path(platform).read_text())
    assert options == {
        "spark.executor.resource.gpu.amount": "0",
        "spark.task.resource.gpu.amount": "0",
        "spark.task.cpus": "1",
        "spark.excludeOnFailure.enabled": "true",
    }
    assert options.keys() <= read(platform).keys()
