"""The same digits sweep on every stack: with any version of Python, numpy, pyarrow and opencv that setup.py allows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lottery.stack_digests import BY_PROCESSOR

ROOT = Path(__file__).parents[2]
PINNED = {
    "content hash": "947d78a8da25956b",
    "dataset's files": "a5fd96f6edb6ab87",
    "moments": "d1d3e63eeb7059c4",
    "identity": "ad7a771fb404",
    "order": "6fb833d69c1c7b9c",
    "batches": "6d6fe7be88a37085",
    "mask": "d8fe78cd32ddad0f",
    "shuffled mask": "327d7ae210ca89f4",
}


def digests(python):
    command = [python, "-m", "tests.lottery.stack_digests"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def here():
    return digests(sys.executable)


def test_what_no_processor_changes_is_pinned(here):
    assert {name: digest for name, digest in here.items() if name not in BY_PROCESSOR} == PINNED


@pytest.mark.petastorm
def test_the_oldest_and_the_newest_versions_give_the_same_bits(here):
    """Of trained weights, too: on one processor they depend on TensorFlow alone."""
    assert digests(ROOT / ".venv" / "bin" / "python") == here
