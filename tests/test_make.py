"""The Makefile on a machine that is short of something."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.environments import ROOT, program


def variable(name: str, **environment: str) -> str:
    """What this environment variable is in a recipe."""
    show = f'--eval=show: ; @echo "$${name}"'
    done = subprocess.run(
        ["make", "--no-print-directory", show, "show"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.removesuffix("\n")


def test_uv_does_without_its_cache_where_the_home_directory_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert variable("UV_NO_CACHE", HOME=str(tmp_path / "my home")) == ""
    assert variable("UV_NO_CACHE", HOME=str(tmp_path / "file" / "home")) == "1"
    assert variable("UV_NO_CACHE") == "1"
    assert variable("UV_NO_CACHE", HOME=str(tmp_path / "file"), XDG_CACHE_HOME=str(tmp_path / "cache")) == ""
    assert variable("UV_NO_CACHE", HOME=str(tmp_path), UV_CACHE_DIR=str(tmp_path / "file")) == "1"


def set_up(folder: Path, version: str = "3.11") -> Path:
    """A folder in which `make setup` has been run; the Python that .venv links to."""
    for name in ("requirements.lock", "setup.py"):
        (folder / name).touch()
    python = folder / "pythons" / f"python{version}"
    program(python, f"echo '{version}|venv|{python}'")
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(python)
    (folder / ".venv" / "bin" / "uv").touch()
    (folder / ".venv" / ".complete").touch()
    (folder / "scripts").symlink_to(ROOT / "scripts")
    return python


def make(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs this Makefile in the folder, without the settings of the make that runs the tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--file", ROOT / "Makefile", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def recipe(folder: Path, target: str) -> str:
    """What make would run for the target in this folder."""
    done = make(folder, "--dry-run", target)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("target", ["setup", "lock"])
def test_an_environment_whose_python_is_gone_is_set_up_anew(tmp_path: Path, target: str) -> None:
    python = set_up(tmp_path)
    assert "venv --clear" not in recipe(tmp_path, target)
    python.unlink()
    assert "venv --clear" in recipe(tmp_path, target)


def test_another_python_than_the_one_that_is_set_up_is_refused(tmp_path: Path) -> None:
    set_up(tmp_path, "3.11")
    other = tmp_path / "python3.12"
    program(other, f"echo '3.12|venv|{other}'")
    for target in ("setup", "test", "test-cluster", "test-spark", "lint", "demo", "science"):
        done = make(tmp_path, f"PYTHON={other}", target)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines()[0] == (
            f"error: PYTHON={other} is Python 3.12, but .venv has Python 3.11: "
            "run `make clean` first, or leave PYTHON out"
        )


def test_the_python_that_is_set_up_may_be_named(tmp_path: Path) -> None:
    python = set_up(tmp_path)
    done = make(tmp_path, f"PYTHON={python}", "setup")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_hadoop_is_fetched_again_after_its_list_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(tmp_path)
    jars = tmp_path / ".venv" / "lib" / "python3.11" / "site-packages" / "pyspark" / "jars"
    jars.mkdir(parents=True)
    (jars / "hadoop-client-api-3.3.4.jar").touch()
    (tmp_path / "tests" / "hadoop").mkdir(parents=True)
    sources = [tmp_path / "tests" / "hadoop" / name for name in ("pom.xml", "QuickLocalFs.java")]
    for source in sources:
        source.touch()
        os.utime(source, (1e9, 1e9))
    program(tmp_path / "bin" / "mvn", f"echo fetched; mkdir -p '{tmp_path}/.hadoop/3.3.4'")
    program(tmp_path / "bin" / "javac", "")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=os.pathsep)
    assert make(tmp_path, "hadoop").stdout == "fetched\n"
    assert make(tmp_path, "hadoop").stdout == ""
    for source in sources:
        os.utime(source, (4e9, 4e9))
        assert make(tmp_path, "hadoop").stdout == "fetched\n"
        os.utime(source, (1e9, 1e9))


def test_an_archive_may_be_for_another_python(tmp_path: Path) -> None:
    set_up(tmp_path, "3.11")
    assert "find_python" not in recipe(tmp_path, "dist")


def test_each_spark_that_is_locked_has_a_lock(tmp_path: Path) -> None:
    set_up(tmp_path)
    (sparks,) = re.findall(r"for spark in (.*?); do", recipe(tmp_path, "lock"))
    locks = sorted(path.name for path in ROOT.glob("requirements-spark-*.lock"))
    assert locks == [f"requirements-spark-{spark}.lock" for spark in sparks.split()]
    assert f"VENV=.venv-spark-{sparks.split()[-1]} " in recipe(tmp_path, "test-spark")  # without SPARK: the newest


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-petastorm.lock"])
def test_a_lock_is_for_other_processors_too(lock: str) -> None:
    text = (ROOT / lock).read_text()
    lines = re.findall(r"^(tensorflow\S*)==\S+ ; .*?platform_machine (.. '\w+')", text, re.MULTILINE)
    assert lines == [("tensorflow", "!= 'x86_64'"), ("tensorflow-cpu", "== 'x86_64'")]


def test_without_python_3_11_test_petastorm_says_what_to_install(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "uv", "echo 'error: no network' >&2; exit 2")
    (tmp_path / "requirements-petastorm.lock").touch()
    done = make(tmp_path, "-o", ".venv/.complete", f"BIN={tmp_path}/bin", "test-petastorm")
    assert (done.returncode, done.stdout) == (2, "")
    first, second, *_ = done.stderr.splitlines()
    assert first == "error: no network"
    assert second.startswith("error: petastorm needs Python 3.11: there is none on the PATH, and uv could not fetch it")
