"""scripts/find_python takes the first Python that lottery-trellis runs on, or says in one line what to install."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environments import ROOT, program

SCRIPT = ROOT / "scripts" / "find_python"


def python(path: Path, version: str, venv: str = "venv") -> Path:
    """A file that answers as the Python of this version does."""
    program(path, f"echo '{version}|{venv}|{path}'")
    return path


def find(folders: list[Path], *arguments: str) -> str:
    """The path that the script prints, or else its error."""
    path = ":".join(map(str, folders))
    done = subprocess.run([SCRIPT, *arguments], env={"PATH": path}, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout.removesuffix("\n")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line


def test_the_newest_python_that_fits_comes_first(tmp_path: Path) -> None:
    python(tmp_path / "python3", "3.14")
    first = python(tmp_path / "python3.11", "3.11")
    assert find([tmp_path]) == str(first)
    first = python(tmp_path / "python3.13", "3.13")
    assert find([tmp_path]) == str(first)


def test_python3_counts_if_its_version_fits(tmp_path: Path) -> None:
    path = python(tmp_path / "python3", "3.12")
    assert find([tmp_path]) == str(path)


def test_a_python_that_does_not_run_is_passed_over(tmp_path: Path) -> None:
    program(tmp_path / "shims" / "python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    real = python(tmp_path / "bin" / "python3.13", "3.13")
    assert find([tmp_path / "shims", tmp_path / "bin"]) == str(real)


def test_a_python_with_venv_comes_before_a_newer_one_without(tmp_path: Path) -> None:
    bare = python(tmp_path / "python3.13", "3.13", venv="")
    assert find([tmp_path]) == (
        f"error: {bare} has no venv: install python3.13-venv (Debian, Ubuntu), or run `make PYTHON=uv`"
    )
    whole = python(tmp_path / "python3.11", "3.11")
    assert find([tmp_path]) == str(whole)


def test_where_there_is_none_it_says_what_to_install(tmp_path: Path) -> None:
    python(tmp_path / "python3", "3.9")
    line = find([tmp_path])
    assert line.startswith("error: no Python 3.11, 3.12 or 3.13 on the PATH: install python3-venv (Debian, Ubuntu) or ")


def test_the_users_python_wins(tmp_path: Path) -> None:
    python(tmp_path / "python3.13", "3.13")
    chosen = python(tmp_path / "my python", "3.11")
    assert find([tmp_path], str(chosen)) == str(chosen)
    assert find([tmp_path], "my python") == str(chosen)


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("3.10", "PYTHON=mine is Python 3.10: needs 3.11, 3.12 or 3.13; name another, or leave PYTHON out"),
        ("", "PYTHON=mine does not run as a Python; install it, name another, or leave PYTHON out"),
    ],
)
def test_a_python_of_the_user_that_does_not_fit_is_named(tmp_path: Path, version: str, says: str) -> None:
    python(tmp_path / "python3.13", "3.13")
    python(tmp_path / "mine", version)
    assert find([tmp_path], "mine") == f"error: {says}"


def test_a_python_of_the_user_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert find([tmp_path], "python3.12") == (
        "error: PYTHON=python3.12 does not run as a Python; install it, name another, or leave PYTHON out"
    )


def test_uv_brings_a_python(tmp_path: Path) -> None:
    brought = python(tmp_path / "uv python", "3.13")
    program(tmp_path / "uv", f'[ "$2" = install ] || echo "{brought}"')
    assert find([tmp_path], "uv") == str(brought)


def test_without_uv_it_says_how_to_get_it(tmp_path: Path) -> None:
    assert find([tmp_path], "uv").startswith("error: PYTHON=uv: no uv on the PATH; install it with `pipx install uv`")
    program(tmp_path / "uv", "exit 1")
    assert find([tmp_path], "uv") == "error: PYTHON=uv: uv could not fetch Python 3.13, for the reason above"


def test_a_virtual_environment_counts_as_the_python_that_it_was_made_with(tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to(sys.executable)
    assert find([tmp_path]) == str(Path(sys.executable).resolve())


def test_the_versions_are_those_of_the_package(tmp_path: Path) -> None:
    (low, high) = re.search(r'python_requires=">=3\.(\d+),<3\.(\d+)"', (ROOT / "setup.py").read_text()).groups()  # type: ignore[union-attr]
    *_, last = versions = [f"3.{minor}" for minor in range(int(low), int(high))]
    assert f'supported="{", ".join(versions[:-1])} or {last}"' in SCRIPT.read_text()
    for version in versions:
        path = python(tmp_path / version / f"python{version}", version)
        assert find([path.parent]) == str(path)
    assert find([], str(python(tmp_path / "next", f"3.{high}"))).endswith("name another, or leave PYTHON out")
