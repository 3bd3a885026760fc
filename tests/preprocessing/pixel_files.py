"""idx files and CIFAR's binary archives of images that are drawn here."""

from __future__ import annotations

import functools
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.preprocessing.archives import gzip_bytes, tar_bytes
from tests.preprocessing.raw_images import photo

Pixels = NDArray[np.uint8]


def grays(count: int, height: int = 28, width: int = 28, seed: int = 0) -> Pixels:
    """Images [count, height, width]."""
    return np.stack([photo(height, width, seed + number)[:, :, 0] for number in range(count)])


def idx(array: Pixels) -> bytes:
    """An idx file of unsigned bytes."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(
    root: Path, splits: dict[str, tuple[Pixels, list[int]]], name: str = "{split}-{what}-idx{n}-ubyte.gz"
) -> None:
    """The two files of each split (train, t10k or test)."""
    root.mkdir(parents=True, exist_ok=True)
    for split, (images, labels) in splits.items():
        for what, array in (("images", images), ("labels", np.array(labels, np.uint8))):
            path = root / name.format(split=split, what=what, n=array.ndim)
            path.write_bytes(gzip_bytes(idx(array)) if path.suffix == ".gz" else idx(array))


CIFAR_10 = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
NAMES_10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def record(pixels: Pixels, *labels: int) -> bytes:
    """A record of RGB [32, 32, 3]."""
    return bytes(labels) + pixels.transpose(2, 0, 1).tobytes()


def cifar10_files(per_batch: int = 10) -> dict[str, bytes]:
    """What is in `cifar-10-binary.tar.gz`; labels are 0, 1, ... in turn."""
    return dict(_cifar10_files(per_batch))


@functools.cache
def _cifar10_files(per_batch: int) -> dict[str, bytes]:
    files, seed = {"batches.meta.txt": ("\n".join(NAMES_10) + "\n\n").encode()}, 0
    for name in CIFAR_10:
        records = []
        for _ in range(per_batch):
            records.append(record(photo(32, 32, seed), seed % 10))
            seed += 1
        files[name] = b"".join(records)
    return {**files, "readme.html": b"<html>"}


@functools.cache
def cifar100_files() -> dict[str, bytes]:
    """What is in `cifar-100-binary.tar.gz`: every fine label once in train, and the first five in test."""
    train = b"".join(record(photo(32, 32, fine), fine // 5, fine) for fine in range(100))
    return {
        "fine_label_names.txt": "".join(f"fine {number:02}\n" for number in range(100)).encode(),
        "coarse_label_names.txt": "".join(f"coarse {number:02}\n" for number in range(20)).encode(),
        "train.bin": train,
        "test.bin": train[: 5 * 3074],
    }


def archive(files: dict[str, bytes], folder: str) -> bytes:
    """A tar of the files in a folder."""
    return tar_bytes({f"{folder}/{name}": data for name, data in files.items()})


def write_files(root: Path, files: dict[str, bytes]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (root / name).write_bytes(data)
