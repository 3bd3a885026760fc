"""spark-submit as users run it: from the repository's root."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMEOUT = 240  # seconds

PYTHON = ("--conf", f"spark.pyspark.python={sys.executable}")  # instead of the properties file's, .venv/bin/python
LOCAL = ("--properties-file", "conf/spark/local.conf", "--master", "local[2]", *PYTHON)


def command(job: str, *arguments: str, options: Sequence[str] = LOCAL) -> list[str]:
    return ["spark-submit", *options, f"jobs/{job}", *map(str, arguments)]


def submit(job: str, *arguments: str, options: Sequence[str] = LOCAL) -> subprocess.CompletedProcess[str]:
    """Runs a job to its end. spark-submit merges the driver's standard error into its standard output."""
    return subprocess.run(
        command(job, *arguments, options=options),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
