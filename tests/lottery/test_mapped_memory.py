"""A mapped split's pages, which count as memory of every process that has read them, can be given back."""

from pathlib import Path

import numpy as np

from preprocessing.dataset.opening import Dataset
from tests.lottery.datasets import local_dataset


def resident_kib(name):
    """KiB of the files whose path contains `name` that this process has mapped and read."""
    total, counted = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first:
            counted = name in line
        elif first == "Rss:" and counted:
            total += int(line.split()[1])
    return total


def test_released_pages_come_back_when_they_are_read(tmp_path):
    uri, everything = local_dataset(tmp_path, size=64)
    split = Dataset.open(uri).split("train")
    rows = np.arange(100)
    images, _ = split.gather(rows)
    blobs, _ = split.stored(rows)
    assert resident_kib(uri) > 1000
    split.release()
    assert resident_kib(uri) < 100
    assert np.array_equal(images, everything["train"][0])
    assert np.array_equal(split.image(blobs[7], 7), images[7])  # also what was in use
    assert np.array_equal(split.gather(rows)[0], images)
