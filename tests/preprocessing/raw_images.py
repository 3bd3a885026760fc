"""Raw images and jobs for the tests, made here: no file of any machine is read."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from py4j.protocol import Py4JError

from preprocessing.job.prepare import Request
from preprocessing.job.run import run
from preprocessing.job.settings import Settings


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Something like a photograph, uint8 RGB [height, width, 3]: smooth colours, edges, a little noise."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    channels = []
    for _ in range(3):
        fx, fy, phase = generator.uniform(0.01, 0.2, 3)
        wave = 127 + 90 * np.sin(fx * x + fy * y + 20 * phase)
        cx, cy, radius = generator.uniform(0, width), generator.uniform(0, height), generator.uniform(4, 40)
        wave = np.where((x - cx) ** 2 + (y - cy) ** 2 < radius**2, 250 - wave, wave)
        channels.append(wave + generator.normal(0, 4, wave.shape))
    return np.clip(np.stack(channels, axis=2), 0, 255).astype(np.uint8)


def jpeg(height: int, width: int, seed: int = 0, quality: int = 90) -> bytes:
    """A JPEG of `photo`."""
    return bytes(simplejpeg.encode_jpeg(photo(height, width, seed), quality=quality, colorsubsampling="420"))


CLASSES = ("n01440764", "n01443537", "n01484850")


def write_folders(root: Path, per_class: dict[str, int], bad: dict[str, bytes] | None = None) -> None:
    """Class folders below `root`, images of several shapes; `bad` are further files by name."""
    number = 0
    for split, count in per_class.items():
        for name in CLASSES:
            folder = root / split / name
            folder.mkdir(parents=True)
            for place in range(count):
                data = jpeg(40 + number % 7 * 5, 36 + number % 5 * 9, seed=number)
                # Val is numbered through all classes, which are mixed in it.
                val = f"ILSVRC2012_val_{place * len(CLASSES) + CLASSES.index(name) + 1:08}"
                stem = val if split == "val" else f"{name}_{place}"
                (folder / f"{stem}.JPEG").write_bytes(data)
                number += 1
    for path, data in (bad or {}).items():
        (root / path).write_bytes(data)


class SerialSpark:
    """As much of a SparkContext as the job uses, in this process: tasks one after the other."""

    def parallelize(self, items: Any, slices: int) -> SerialSpark:
        assert slices == len(items)
        self._items = list(items)
        return self

    def map(self, function: Callable[[Any], Any]) -> SerialSpark:
        try:
            self._items = [function(item) for item in self._items]
        except Exception as error:  # which Spark hands on as text
            raise Py4JError(f"An error occurred while calling o1.collect.\n: {traceback.format_exc()}") from error
        return self

    def collect(self) -> list[Any]:
        return self._items

    def accumulator(self, value: Any, kind: Any = None) -> Any:
        class Accumulator:
            def __init__(self) -> None:
                self.value = value

            def add(self, more: Any) -> None:
                self.value = kind.addInPlace(self.value, more) if kind else self.value + more

        return Accumulator()

    def setJobGroup(self, *_: Any, **__: Any) -> None:  # noqa: N802
        pass

    def cancelJobGroup(self, _: str) -> None:  # noqa: N802
        pass


@contextmanager
def serial_spark(_: str) -> Iterator[Any]:
    """Stands where a real context would."""
    yield SerialSpark()


@contextmanager
def no_spark(_: str) -> Iterator[Any]:
    """For what has to end before Spark starts."""
    raise AssertionError("Spark was started")
    yield


def preprocess(source: Path, output: Path, start: Any = serial_spark, **options: Any) -> Any:
    """The whole job in this process; `options` are those of `Request` and `Settings`."""
    request = {
        name: options.pop(name) for name in ("layout", "max_rejected", "overwrite", "source_options") if name in options
    }
    settings = Settings(**{"size": 32, "row_group_rows": 8, **options})
    return run(Request(str(source), str(output), settings, **request), start)


DAMAGES = ("missing", "cut", "emptied", "another row", "another file")


def do_damage(path: Path, damage: str) -> None:
    """Does one of DAMAGES to a dataset's file."""
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[:-1000])
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "another row":
        start = data.index(b"\x93NUMPY")
        path.write_bytes(data[:start] + b"?" + data[start + 1 :])
    else:
        path.write_bytes(data[: len(data) - 4] + b"PAR2")
