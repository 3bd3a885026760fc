"""Damaged images by the thousand, through the decoders and through the whole job: none may crash or hang either.

    . scripts/activate && python tests/preprocessing/fuzz_images.py --images FOLDER --count 5000

FOLDER has images to damage, beside those that are made here. Every image is decoded in two processes whose fresh memory
holds different bytes, so that pixels which nobody wrote are seen; then all of them are a source for jobs/preprocess.py.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from preprocessing.dataset.codecs import StoredImages, encode_jpeg
from preprocessing.dataset.opening import Dataset
from preprocessing.images.decode import CRASH, Rejected, decode

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # started as a script, it is in no package

from tests.preprocessing.mutations import IMAGES, mutate, splice  # noqa: E402
from tests.preprocessing.odd_jpegs import ARITHMETIC, LOSSLESS, UNSUPPORTED  # noqa: E402

SIZES = (8, 64)  # scaled while decoded, and not
CLASSES = 8
SECONDS = 10  # an image; the largest that is not refused takes two
FRESH_BYTES = (1, 254)  # of memory that is not zeroed
Outcomes = dict[str, str]


def damaged(sources: Sequence[bytes], count: int, seed: int) -> Iterable[bytes]:
    """`count` images: of each source a few, damaged in one to four ways, a tenth of them parts of two."""
    chance = random.Random(seed)
    for number in range(count):
        data = sources[number % len(sources)]
        if chance.random() < 0.1:
            data = splice(data, chance.choice(sources), chance)
        yield mutate(data, chance.randrange(2**32), chance.randrange(1, 5))


def generated() -> list[bytes]:
    """An image of every format and every kind of JPEG; the last are as a dataset of codec jpeg has them."""
    stored = [encode_jpeg(decode(IMAGES[0], size), 90) for size in SIZES]
    return [*IMAGES, *LOSSLESS.values(), ARITHMETIC, *(data for data, _ in UNSUPPORTED.values()), *stored]


def write_source(root: Path, images: Iterable[bytes]) -> None:
    """Class folders of these images."""
    for number, data in enumerate(images):
        path = root / "train" / f"c{number % CLASSES}" / f"{number:06}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def decode_all(root: Path, fresh_byte: int) -> Outcomes:
    """What becomes of every image: a checksum of its pixels, or why there are none; `crash` or `hang` if it does."""
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*.JPEG"))
    found: Outcomes = {}
    while len(found) < len(names):
        left = names[len(found) :]
        with tempfile.TemporaryFile("w+") as todo:
            todo.write("\n".join(left))
            todo.seek(0)
            child = subprocess.Popen(
                [sys.executable, __file__, "--child", str(root)],
                stdin=todo,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "MALLOC_PERTURB_": str(fresh_byte)},
            )
        assert child.stdout is not None
        with child:
            answers = dict(zip(left, (line.rstrip("\n") for line in child.stdout), strict=False))
        found.update(answers)
        if len(answers) < len(left):
            found[left[len(answers)]] = f"crash: status {child.returncode}"
    return found


def decode_here(root: Path, names: Iterable[str]) -> None:
    """The child of `decode_all`: a line for every image, at every size, from a raw image and from a stored one."""
    for name in names:
        data = (root / name).read_bytes()
        started, outcomes = time.process_time(), []
        for size in SIZES:
            try:
                outcomes.append(f"{zlib.crc32(decode(data, size)):08x}")
            except Rejected as error:
                outcomes.append(error.reason)
            stored = StoredImages("jpeg", size).decode(np.frombuffer(data, np.uint8))
            outcomes.append("none" if stored is None else f"{zlib.crc32(stored):08x}")
        slow = time.process_time() - started > SECONDS
        print("hang" if slow else ", ".join(outcomes), flush=True)


def faults(one: Outcomes, other: Outcomes) -> list[str]:
    """Images that crashed or hung a decoder, or have pixels that depend on the memory they were decoded in."""
    return [
        f"{name}: {one[name]} and then {other[name]}"
        for name in one
        if one[name] != other[name] or one[name].startswith(("crash", "hang"))
    ]


def run_job(source: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """The job over all of them."""
    binary, python = Path(sys.executable).parent / "spark-submit", f"spark.pyspark.python={sys.executable}"
    command = [str(binary), "--properties-file", "conf/spark/local.conf", "--conf", python, "jobs/preprocess.py"]
    command += ["--size", str(SIZES[-1]), "--rows-per-row-group", "16", "--max-rejected", "1"]
    command += ["--source", str(source), "--output", str(output)]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def look_at(source: Path, output: Path) -> list[str]:
    """What is wrong with the dataset: images that are missing, or have other pixels than here, or crashed."""
    dataset = Dataset.open(str(output))
    rows = dataset.splits["train"]
    rejected = pq.read_table(output / "rejected.parquet").to_pylist()
    print(f"{rows.count} rows, {len(rejected)} rejected")
    for reason, count in Counter(row["reason"] for row in rejected).most_common():
        print(f"    {reason} {count}")
    tables = (pq.read_table(output / file.name, columns=["id"], partitioning=None) for file in rows.files)
    ids = [name for table in tables for name in table["id"].to_pylist()]
    images, _ = dataset.split("train").gather(np.arange(rows.count))
    found = [f"{row['id']}: {row['detail']}" for row in rejected if row["reason"] == CRASH]
    if rows.count + len(rejected) != len(list(source.rglob("*.JPEG"))):
        found.append("images are missing")
    for name, image in zip(ids, images, strict=True):
        if not np.array_equal(decode((source / "train" / name).read_bytes(), dataset.size), image):
            found.append(f"{name}: other pixels in the dataset")
    return found


def main() -> int:
    """Fuzzes, says what it found and returns 1 if that is anything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of images to damage, besides those made here")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="empty folder for the damaged images and the dataset, to look at")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        decode_here(options.child, sys.stdin.read().splitlines())
        return 0
    given = sorted(path for path in options.images.rglob("*") if path.is_file()) if options.images else []
    sources = [*generated(), *(path.read_bytes() for path in given)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        source, output = folder / "raw", folder / "dataset"
        write_source(source, damaged(sources, options.count, options.seed))
        problems = faults(*(decode_all(source, byte) for byte in FRESH_BYTES))
        print(f"{options.count} damaged images decoded twice, {len(problems)} faults", flush=True)
        job = run_job(source, output)
        if job.returncode or "a Python worker died" in job.stdout:
            problems.append(f"the job ended with status {job.returncode}: {job.stdout[-2000:]}")
        if not job.returncode:
            problems += look_at(source, output)
    print("\n".join(problems) or "nothing crashed, nothing is missing, every row has the pixels it has to have")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
