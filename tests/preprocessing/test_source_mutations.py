"""Damaged shards, archives and label files: each is read or refused in one line, in time, and no image is miscounted.

`make test` takes a quarter of the 2,000 cases; with LOTTERY_MUTATIONS=1 in the environment it takes all.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from preprocessing.images.decode import decode
from preprocessing.sources.base import Catalogue, Source
from preprocessing.sources.braces import split_braces
from preprocessing.sources.layouts import open_source
from preprocessing.sources.tar_index import members
from preprocessing.sources.tfrecord_file import TFRecordError, features
from tests.preprocessing.archives import gzip_bytes, tar_bytes
from tests.preprocessing.mutations import mutate
from tests.preprocessing.pixel_files import archive, cifar10_files, grays, idx
from tests.preprocessing.shard_files import example, framed

SECONDS = 10.0  # of processor time, which other work on the machine does not add to
SHARE = 1.0 if os.environ.get("LOTTERY_MUTATIONS") else 0.25


def cases(number: int) -> Any:
    """Settings for a share of a number of cases."""
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(
        deadline=None, database=None, suppress_health_check=checks, max_examples=max(1, int(number * SHARE))
    )


def read_or_refuse(root: Path, layout: str) -> tuple[Source, Catalogue] | None:
    """The source and all its images; None if it is refused."""
    started = time.process_time()
    refusal = None
    try:
        source = open_source(open_store(root), layout)
        found = source.catalogue(source.classes())
    except InputError as error:
        refusal = error
    assert time.process_time() - started < SECONDS
    if refusal is None:
        return source, found
    assert type(refusal) is InputError
    assert "\n" not in str(refusal)
    assert str(root) in str(refusal)
    return None


def put(root: Path, files: dict[str, bytes]) -> None:
    for path in root.iterdir():
        path.unlink()
    for name, data in files.items():
        (root / name).write_bytes(data)


def images(found: Catalogue) -> list[dict[str, Any]]:
    return [row for split in sorted(found.splits) for row in found.splits[split].to_pylist()]


def pixels(source: Source, row: dict[str, Any]) -> Any:
    """The pixels of a staged image, 32 x 32."""
    (data,) = source.extract()(row["path"].decode(), [row["offset"]])
    return decode(data, 32)


PAYLOADS = {f"image {number}".encode() * (number * 7 + 1): number % 3 for number in range(12)}
RECORDS = b"".join(
    framed(example({"image/encoded": data, "image/class/label": label, "image/filename": b"%d.JPEG" % number}))
    for number, (data, label) in enumerate(PAYLOADS.items())
)
SEEDS = (st.integers(0, 2**32), st.integers(1, 4))


@cases(500)
@given(*SEEDS)
def test_records(tmp_path: Path, seed: int, times: int) -> None:
    """Checksums guard all bytes: what is read is what was written."""
    data = mutate(RECORDS, seed, times)
    put(tmp_path, {"a.tfrecord": data})
    result = read_or_refuse(tmp_path, "tfrecord")
    if result is not None:
        for row in images(result[1]):
            assert PAYLOADS[data[row["offset"] : row["offset"] + row["length"]]] == int(row["class"])
        assert data == RECORDS or len(data) != len(RECORDS)


EXAMPLE = example({"image": b"x" * 300, "label": 7, "text": b"words", "box": 0.5})


@cases(300)
@given(*SEEDS)
def test_examples(seed: int, times: int) -> None:
    data = mutate(EXAMPLE, seed, times)
    started = time.process_time()
    try:
        found = features(data)
    except TFRecordError:
        return
    finally:
        assert time.process_time() - started < SECONDS
    for values in found.values():
        assert all(isinstance(value, int) or 0 <= value.start <= value.end <= len(data) for value in values)


def shard(kind: str) -> bytes:
    files: dict[str, bytes] = {}
    for number, (data, label) in enumerate(PAYLOADS.items()):
        files[f"{number}.jpg"] = data
        files[f"{number}.{kind}"] = b"%d" % label if kind == "cls" else b'{"label": %d}' % label
    return tar_bytes(files)


SHARDS = [shard("cls"), shard("json")]


@cases(400)
@given(st.integers(0, 1), *SEEDS)
def test_tars(tmp_path: Path, which: int, seed: int, times: int) -> None:
    data = mutate(SHARDS[which], seed, times)
    put(tmp_path, {"a.tar": data})
    result = read_or_refuse(tmp_path, "webdataset")
    if result is not None:
        inside = list(members(lambda offset, length: data[offset : offset + length], 0, len(data)))
        assert len(images(result[1])) + result[1].skipped.total() == len(inside)


GRAYS, LABELS = grays(6, 8, 8), np.arange(6, dtype=np.uint8) % 2
IDX = {"train-images-idx3-ubyte": idx(GRAYS), "train-labels-idx1-ubyte": idx(LABELS)}
BATCHES = cifar10_files(per_batch=2)
CIFAR_TAR = archive(BATCHES, "cifar-10-batches-bin")


@cases(400)
@given(st.integers(0, 1), st.integers(0, 2), *SEEDS)
def test_idx_files(tmp_path: Path, which: int, form: int, seed: int, times: int) -> None:
    """Plain; or gzipped, and damaged before or after."""
    name = list(IDX)[which]
    put(tmp_path, {other: data for other, data in IDX.items() if other != name})
    if form == 0:
        put_one(tmp_path, name, mutate(IDX[name], seed, times))
    else:
        data = gzip_bytes(mutate(IDX[name], seed, times) if form == 1 else IDX[name])
        put_one(tmp_path, f"{name}.gz", mutate(data, seed, times) if form == 2 else data)
    result = read_or_refuse(tmp_path, "idx")
    if result is not None:
        source, found = result
        rows = images(found)
        assert sum(len(table) for table in found.splits.values()) == len(rows) == 6
        assert pixels(source, rows[-1]).shape == (32, 32, 3)
        if form == 2:  # guarded by a checksum, except for the name and time in the header
            assert [row["class"] for row in sorted(rows, key=lambda row: row["offset"])] == list("010101")


def put_one(root: Path, name: str, data: bytes) -> None:
    (root / name).write_bytes(data)


@cases(300)
@given(st.integers(0, 2), *SEEDS)
def test_cifar(tmp_path: Path, form: int, seed: int, times: int) -> None:
    """A batch; or an archive, plain or gzipped."""
    chance = random.Random(seed)
    if form == 0:
        name = chance.choice(sorted(BATCHES))
        put(tmp_path, {**BATCHES, name: mutate(BATCHES[name], seed, times)})
    elif form == 1:
        put(tmp_path, {"cifar-10-binary.tar": mutate(CIFAR_TAR, seed, times)})
    else:
        put(tmp_path, {"cifar-10-binary.tar.gz": mutate(gzip_bytes(CIFAR_TAR), seed, times)})
    result = read_or_refuse(tmp_path, "cifar")
    if result is not None:
        source, found = result
        rows = images(found)
        assert all(0 <= row["offset"] < 20 for row in rows)
        assert pixels(source, rows[-1]).shape == (32, 32, 3)
        if form:
            assert len(rows) == 12 or form == 1


ANNOTATIONS = "".join(f"val_{number}.JPEG\tn{number % 2}\t0\t0\t62\t62\n" for number in range(8)).encode()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiny")
    paths = [f"train/n{number}/images/a.JPEG" for number in range(2)]
    for path in (*paths, *(f"val/images/val_{number}.JPEG" for number in range(8))):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


@cases(200)
@given(*SEEDS)
def test_annotations(tiny: Path, seed: int, times: int) -> None:
    (tiny / "val/val_annotations.txt").write_bytes(mutate(ANNOTATIONS, seed, times))
    result = read_or_refuse(tiny, "tiny-imagenet")
    assert result is None or len(images(result[1])) == 10


@cases(200)
@given(st.lists(st.sampled_from(["{", "}", "..", ",", "0", "9", "12", "a", "/", "?", "-", ".tar"]), max_size=14))
def test_braces(pieces: list[str]) -> None:
    text, found = "".join(pieces), None
    with contextlib.suppress(InputError):
        found = split_braces(text)
    if found is not None:
        folder, files = found
        assert folder
        assert len(set(files)) == len(files) <= 1_000_000
