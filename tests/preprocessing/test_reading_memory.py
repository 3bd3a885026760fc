"""What a stream from afar holds in memory does not grow with the dataset."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.lottery.datasets import write_dataset

# A stream in windows of 4 row groups, through whose memory many times its budget goes: its peak, less the start's.
CODE = """
import json, sys, time
import numpy as np
from lottery.input.order import sample_order
from preprocessing.dataset import row_groups
from preprocessing.dataset import split as reading
from preprocessing.dataset.opening import Dataset, Reading
reading.READ_AHEAD_BYTES, row_groups.MEMORY_CACHE_BYTES = 16 << 20, 8 << 20

def peak():
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) >> 10

split = Dataset.open(sys.argv[1]).split("train", Reading(mapped=False))
order = sample_order("", 0, 0, split.row_group_starts, 4)
pieces = np.array_split(order, len(order) // 32)
split.stored(pieces[0])
before, images = peak(), 0
for blobs, _ in split.stream(pieces):
    images += len(blobs)
    time.sleep(0.02)  # so that the reader comes as far ahead as it may
print(json.dumps({"images": images, "mebibytes": peak() - before}))
"""


def test_a_stream_from_afar_holds_no_more_than_its_budget(tmp_path: Path) -> None:
    write_dataset(str(tmp_path / "dataset"), {"train": [512, 512]}, size=256, row_group_rows=16)  # 192 MiB
    child = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "dataset")], stdout=subprocess.PIPE, check=True, timeout=120
    )
    found = json.loads(child.stdout)
    assert found["images"] == 1024
    # The budget, the four windows' worth that the last pieces still need, and the allocator's own.
    assert found["mebibytes"] < 64
