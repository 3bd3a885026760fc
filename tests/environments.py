"""What tests of programs share: the folder they run in, fake programs, and the environment of another Spark's user."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
# Left over from another Spark, which is no longer there.
ANOTHER_SPARK = {
    "SPARK_HOME": "/nonexistent/spark-2.4",
    "SPARK_CONF_DIR": "/nonexistent/conf",
    "SPARK_SUBMIT_OPTS": "-Xnonsense",
    "PYSPARK_PYTHON": "/nonexistent/python2.7",
    "PYSPARK_DRIVER_PYTHON": "/nonexistent/jupyter",
    "PYSPARK_DRIVER_PYTHON_OPTS": "notebook",
    "PYSPARK_SUBMIT_ARGS": "--master yarn pyspark-shell",
    "PYTHONPATH": "/nonexistent/spark-2.4/python",
    "PYTHONINSPECT": "1",
}


def program(path: Path, script: str) -> None:
    """Makes a program of these lines of shell, which run without a PATH."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
