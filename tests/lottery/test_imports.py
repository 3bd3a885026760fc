"""What loads what: the driver never loads TensorFlow, and preprocessing never knows of the lottery."""

import subprocess
import sys

import pytest

DRIVER = "lottery, lottery.driver.sweep, lottery.driver.gang, lottery.report.publish, lottery.executor.task"
COMMANDS = "lottery.__main__, lottery.commands.registry"
PREPROCESSING = "preprocessing.dataset.opening, preprocessing.job.run"
PURE = (
    "lottery.tickets.scheduling, lottery.tickets.masks, lottery.experiment.schedules, lottery.input.order, "
    "lottery.experiment.config"
)


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        (DRIVER, "tensorflow"),
        (DRIVER, "keras"),
        (COMMANDS, "tensorflow"),
        (COMMANDS, "pyspark"),
        (COMMANDS, "matplotlib"),
        (PREPROCESSING, "tensorflow"),
        (PREPROCESSING, "lottery"),
        (PURE, "pyspark"),
    ],
)
def test_import_does_not_load(modules, absent):
    code = f"import {modules}; import sys; sys.exit('{absent}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_check_can_fail():
    code = "import json; import sys; sys.exit('json' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 1
