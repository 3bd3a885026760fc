"""The environment of `make dist`, and a user elsewhere who has nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyspark

from tests.cluster.submit import ROOT

SPARK = Path(pyspark.__file__).parent  # stands for a cluster's own


def run(*command: object, cwd: Path, environment: dict[str, str]) -> str:
    """What a command prints; it must end with status 0."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def user_elsewhere(home: Path) -> dict[str, str]:
    """The environment variables of a user with a Java who has activated nothing."""
    path = os.pathsep.join(
        folder for folder in os.environ["PATH"].split(os.pathsep) if Path(folder) != Path(sys.prefix) / "bin"
    )
    java = {name: value for name, value in os.environ.items() if name == "JAVA_HOME"}
    return {"PATH": path, "HOME": str(home), **java}


def make_archive(folder: Path, compress: str) -> Path:
    """`make dist` into the folder, compressed by a command; the archive, of two gigabytes unpacked."""
    environment = {**os.environ, "COMPRESS": compress}
    run("make", "dist", "EXTRA=cpu", f"DIST={folder}", cwd=ROOT, environment=environment)
    return folder / "lottery-trellis-env.tar.gz"
