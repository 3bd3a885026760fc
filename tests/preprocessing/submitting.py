"""Submitting the job with this checkout's spark-submit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
JOB = ["jobs/preprocess.py", "--size", "32", "--rows-per-row-group", "8"]


def submit(*options: str) -> list[str]:
    """The command; `options` are spark-submit's, then the job with its own."""
    binary = Path(sys.executable).parent / "spark-submit"
    python = f"spark.pyspark.python={sys.executable}"
    return [str(binary), "--properties-file", "conf/spark/local.conf", "--conf", python, *options]


def environment_with_java() -> dict[str, str]:
    """This environment, with the Java that `scripts/activate` finds."""
    script = '. scripts/activate && printf %s "${JAVA_HOME:-}"'
    java = subprocess.run(["sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {**os.environ, "JAVA_HOME": java} if java else dict(os.environ)
