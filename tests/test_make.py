"""The Makefile on a machine that is short of something."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.environments import ROOT


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
