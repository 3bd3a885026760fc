"""What tests of programs share: the folder that they run in, and the environment of a user with another Spark."""

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
