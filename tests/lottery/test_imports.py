"""What loads what: the driver never loads TensorFlow, and preprocessing never knows of the lottery."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("lottery, lottery.sweep, lottery.gang, lottery.report, lottery.gang_task, lottery.__main__", "tensorflow"),
        ("lottery, lottery.sweep, lottery.gang, lottery.report, lottery.gang_task, lottery.__main__", "keras"),
        ("preprocessing.dataset, preprocessing.job", "tensorflow"),
        ("preprocessing.dataset, preprocessing.job", "lottery"),
        ("lottery.plan, lottery.masks, lottery.schedules, lottery.order, lottery.experiment", "pyspark"),
    ],
)
def test_import_does_not_load(modules, absent):
    code = f"import {modules}; import sys; sys.exit('{absent}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_check_can_fail():
    code = "import json; import sys; sys.exit('json' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 1
