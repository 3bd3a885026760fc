"""What a source of millions of images costs the driver: memory and time from the listing to the plan.

`python -m benchmarks.catalogue` makes up the listing of ImageNet-21k, 14 million names in 21,841 class folders. It runs
what the driver does with it before the first task: the catalogue, its signature, the draws, the order and the shards.
Making up the names, in place of listing them, does not count. It prints a line for each step and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from preprocessing.common.program import run_or_explain
from preprocessing.common.storage import Entry, Store, open_store
from preprocessing.job.selection import account, select
from preprocessing.job.settings import Settings
from preprocessing.job.shards import plan_shards
from preprocessing.sources import folders
from preprocessing.sources.base import TRAIN
from preprocessing.sources.listing import Folder

IMAGES, CLASSES = 14_197_122, 21_841


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures one catalogue."""
    parser = argparse.ArgumentParser("python -m benchmarks.catalogue", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--images", type=int, default=IMAGES, help=f"images in all (default {IMAGES})")
    parser.add_argument("--classes", type=int, default=CLASSES, help=f"class folders (default {CLASSES})")
    parser.add_argument("--holdout", type=float, default=0.01, help="fraction moved to minival (default 0.01)")
    options = parser.parse_args(arguments)
    print(json.dumps(measure(options.images, options.classes, options.holdout)))
    return 0


def measure(images: int, classes: int, holdout: float) -> dict[str, Any]:
    """Seconds of each step, and the peak of memory in MB above what the libraries take."""
    listing, settings = _Listing(images, classes), Settings(holdout=holdout)
    source = listing.source()
    seconds: dict[str, float] = {}
    before = started = 0.0

    def step(name: str) -> None:
        nonlocal started
        now = time.perf_counter() - listing.seconds
        if name:
            seconds[name] = round(now - started, 1)
            print(f"{name}: {seconds[name]:.1f} s, {_peak_mb() - before:,.0f} MB at most", flush=True)
        started = now

    before = _peak_mb()
    step("")
    catalogue = source.catalogue(listing.names)
    step("catalogue")
    source.signature(listing.names)
    step("signature")
    splits = select(catalogue, listing.names, settings)
    account(catalogue, splits)
    step("select")
    shards = plan_shards(splits, settings)
    step("shards")
    found = sum(shard.images for shard in shards)
    if found != images:
        raise AssertionError(f"{found} of {images} images are in shards")
    total = round(sum(seconds.values()), 1)
    return {"images": images, "shards": len(shards), "seconds": seconds, "total_s": total, "mb": _peak_mb() - before}


class _Listing:
    """Class folders as a listing gives them, made up one at a time."""

    def __init__(self, images: int, classes: int) -> None:
        self.names = [f"n{number:08}" for number in range(classes)]
        self._each = [images // classes + (number < images % classes) for number in range(classes)]
        self.seconds = 0.0

    def source(self) -> folders.FolderSource:
        """A source of class folders that has this listing."""
        root = Path("/nonexistent")
        folders.walk = self._walk  # type: ignore[assignment]
        folders.list_folder = lambda store, path="": Folder(path, [], [], [], [])  # type: ignore[assignment]
        store = open_store(root)
        store.is_folder = lambda path="": path == TRAIN  # type: ignore[method-assign]
        return folders.FolderSource(store)

    def _walk(self, _: Store, __: Sequence[str]) -> Iterator[Folder]:
        for name, count in zip(self.names, self._each, strict=True):
            started = time.perf_counter()
            files = [Entry(f"{name}_{number}.JPEG", 90_000 + 7 * number) for number in range(count)]
            files.sort()
            self.seconds += time.perf_counter() - started
            yield Folder(f"{TRAIN}/{name}", [], files, [], [])


def _peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    run_or_explain(main)
