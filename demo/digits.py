"""Real images for the demo: scikit-learn's handwritten digits as JPEGs in ImageNet's class-folder layout."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from sklearn.datasets import load_digits

VAL_FRACTION = 0.2
QUALITY = 100  # with 8 x 8 pixels, every one counts


def write_digits(output: Path, seed: int = 0) -> dict[str, int]:
    """Writes `output`/{train,val}/d<digit>/*.JPEG, 1,797 files in all. Returns the number of images per split.

    Files that already have the right content are left alone.
    """
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # [1797, 8, 8]; the scans are 0..16
    val = stratified(digits.target, VAL_FRACTION, seed)
    counts = {"train": 0, "val": 0}
    for number, (image, digit) in enumerate(zip(images, digits.target, strict=True)):
        split = "val" if val[number] else "train"
        counts[split] += 1
        path = output / split / f"d{digit}" / f"d{digit}_{number:04}.JPEG"
        data = simplejpeg.encode_jpeg(np.repeat(image[:, :, None], 3, axis=2), quality=QUALITY, colorsubsampling="444")
        if path.exists() and path.read_bytes() == data:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return counts


def stratified(labels: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.bool_]:
    """A seeded choice of that fraction of each label's images, bool [n]."""
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        places = generator.permutation(np.flatnonzero(labels == label))
        chosen[places[: round(fraction * len(places))]] = True
    return chosen


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="folder that gets train/ and val/")
    folder = parser.parse_args().output
    print(f"{folder}: {write_digits(folder)}")
