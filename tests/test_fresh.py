"""`make test-fresh` on a machine where it cannot run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.environments import ROOT, program


@pytest.mark.parametrize(
    ("programs", "why"),
    [
        ({"id": "echo 1000"}, "it needs root, to make a Debian in a folder"),
        ({"id": "echo 0", "unshare": "exit 1"}, "this machine does not allow new namespaces (unshare)"),
    ],
)
def test_it_says_why_it_is_skipped(tmp_path: Path, programs: dict[str, str], why: str) -> None:
    for name, script in programs.items():
        program(tmp_path / name, script)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [ROOT / "tests" / "fresh" / "run"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"test-fresh skipped: {why}\n")
    assert {path.name for path in tmp_path.iterdir()} == set(programs)
