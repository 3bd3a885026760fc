"""Why Spark cannot start is one line that names the cause."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pyspark
import pytest

from preprocessing.common.errors import InputError
from preprocessing.common.spark_session import waiting
from preprocessing.common.spark_start import check_folders, install_java, java_options, javas, mismatch, no_java, reason

ROOT = Path(__file__).parents[2]
GET_SUBJECT = "java.lang.UnsupportedOperationException: getSubject is not supported"
TOO_MUCH = (
    "java.lang.IllegalArgumentException: Required executor memory (2048 MB), offHeap memory (0) MB, overhead (16384 "
    "MB), and PySpark memory (0 MB) is above the max threshold (8192 MB) of this cluster! Please check the values of "
    "'yarn.scheduler.maximum-allocation-mb' and/or 'yarn.nodemanager.resource.memory-mb'."
)
NO_NAME = "org.apache.hadoop.security.KerberosAuthException: failure to login: x: invalid null input: name"


@pytest.mark.parametrize(
    ("why", "spark", "java", "says"),
    [
        (
            GET_SUBJECT,
            "3.5.9",
            "25.0.2",
            "Java 25.0.2 in /java: Spark 3.5.9 runs on 8, 11, 17; install openjdk-17-jre-headless",
        ),
        (GET_SUBJECT, "4.0.1", "11.0.1", "Java 11.0.1 in /java: Spark 4.0.1 runs on 17, 21; install openjdk-21-jre"),
        ("x: bad port", "4.3.0", "25.0.3", "x: bad port; see the log above, and correct the setting"),
        ("x: bad port", "5.0.0", "25.0.3", "x: bad port; see the log above, and correct the setting"),
        ("x: bad port", "3.5.9", "1.8.0_292", "x: bad port; see the log above, and correct the setting"),
        ("x: bad port", "3.5.9", "17-ea", "x: bad port; see the log above, and correct the setting"),
        ("x: bad port", "3.5.9", "", "x: bad port; see the log above, and correct the setting"),
        (
            TOO_MUCH,
            "3.5.9",
            "17.0.9",
            "YARN gives a container at most 8192 MB, and spark.executor.memory and memoryOverhead (or "
            "spark.yarn.am.memory) ask for more; raise yarn.scheduler.maximum-allocation-mb and "
            "yarn.nodemanager.resource.memory-mb, or ask for less (java.lang.IllegalArgumentException: Required ",
        ),
        (
            NO_NAME,
            "3.5.9",
            "17.0.9",
            "user id 12345 has no entry in /etc/passwd, where Spark looks for a name; add one",
        ),
    ],
)
def test_the_cause_is_named(why: str, spark: str, java: str, says: str) -> None:
    assert reason(why, spark, java, "/java", 12345).startswith(says)


@pytest.mark.parametrize(
    ("spark", "fit"),
    [
        ("3.5.9", "8, 11, 17"),
        ("3.5.2+amzn.0", "8, 11, 17"),
        ("4.0.1", "17, 21"),
        ("4.1.4", "17, 21"),
        ("4.2.0", "17, 21, 25"),
        ("4.3.0", "17, 21, 25"),
        ("4.10.0.dev0", "17, 21, 25"),
        ("5.0.0", ""),
    ],
)
def test_the_javas_are_those_of_this_spark(spark: str, fit: str) -> None:
    assert ", ".join(javas(spark)) == fit
    assert no_java("no gateway", spark).startswith(f"no gateway; Spark {spark} runs on Java {fit}: ")


def test_without_java_the_packages_of_debian_and_fedora_are_named() -> None:
    assert "openjdk-17-jre-headless (Debian 12, Ubuntu) or java-17-openjdk-headless" in install_java("3.5.9")
    assert "openjdk-21-jre-headless (Debian 13, Ubuntu)" in install_java("4.0.5")
    assert "java-21-openjdk-headless (Fedora, RHEL), or set JAVA_HOME to one" in install_java("4.3.0")
    assert install_java("5.0.0") == "set JAVA_HOME to one"


def test_only_spark_4_asks_for_the_vector_module() -> None:
    assert java_options("3.5.9") == ""
    assert java_options("4.0.5") == java_options("4.3.0") == "--add-modules=jdk.incubator.vector"


def test_without_java_the_message_names_the_javas_that_fit() -> None:
    code = "from preprocessing.common.spark_session import start; start(lambda: None)"
    bare = {**os.environ, "JAVA_HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=bare, capture_output=True, text=True, check=False)
    says = done.stderr.splitlines()[-1]
    assert no_java("", pyspark.__version__) in says
    assert "InputError: Spark cannot start: " in says


def test_folders_that_spark_cannot_write_to_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lost, found = str(tmp_path / "file" / "spark"), str(tmp_path / "new" / "spark")
    with pytest.raises(InputError, match=f"^spark.local.dir={lost}: Spark cannot write to any of these; name one"):
        check_folders(lost, {})
    with pytest.raises(InputError, match=f"^SPARK_LOCAL_DIRS={lost},{lost}: Spark cannot write"):
        check_folders(found, {"SPARK_LOCAL_DIRS": f"{lost},{lost}"})
    check_folders(lost, {"SPARK_LOCAL_DIRS": f"{lost}, {found}"})
    check_folders(None, {})


def test_a_pyspark_of_another_version_than_spark_is_named() -> None:
    assert mismatch("3.5.2+amzn.0", "3.5.2-amzn-0", "/opt/spark") is None
    assert mismatch("3.5.9", "3.5.3", None) is None
    says = mismatch("3.5.9", "3.3.4", "/opt/spark")
    assert says is not None
    assert says.startswith("Spark 3.3.4 in SPARK_HOME=/opt/spark with pyspark 3.5.9: the two versions must be the same")


def test_whoever_waits_for_yarn_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with waiting("yarn", 0.05):
        deadline = time.monotonic() + 10
        while len(caplog.messages) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    said = list(caplog.messages)
    time.sleep(0.2)
    assert caplog.messages == said  # no longer
    assert said[0].startswith("waiting for YARN to start the application, 0 s so far: its queue may be full")
    with waiting("spark://127.0.0.1:7077", 0.05):
        time.sleep(0.2)
    assert caplog.messages == said
