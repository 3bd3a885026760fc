"""The Makefile on a machine that is short of something."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

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


def recipe(folder: Path, target: str) -> str:
    """What make would run for the target in a folder that is set up."""
    command = ["make", "--dry-run", "--file", ROOT / "Makefile", target]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_an_environment_whose_python_is_gone_is_set_up_anew(tmp_path: Path) -> None:
    for name in ("requirements.lock", "setup.py"):
        (tmp_path / name).touch()
    program(tmp_path / "python3.11", "")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(tmp_path / "python3.11")
    (tmp_path / ".venv" / ".complete").touch()
    assert "venv --clear" not in recipe(tmp_path, "setup")
    (tmp_path / "python3.11").unlink()
    assert "venv --clear" in recipe(tmp_path, "setup")


def test_without_python_3_11_test_petastorm_says_what_to_install(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "uv", "echo 'error: no network' >&2; exit 2")
    command = ["make", "--file", ROOT / "Makefile", "-o", ".venv/.complete", f"BIN={tmp_path}/bin", "test-petastorm"]
    (tmp_path / "requirements-petastorm.lock").touch()
    # Without the settings of the make that runs the tests.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    first, second, *_ = done.stderr.splitlines()
    assert first == "error: no network"
    assert second.startswith("error: petastorm needs Python 3.11: there is none on the PATH, and uv could not fetch it")
