"""A machine's limits and failing storage are not damage, and a dataset of more files than may be open is read."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from preprocessing.common.errors import EXIT_STORAGE, InputError, StorageError
from preprocessing.common.storage import open_store
from preprocessing.dataset import mapping
from preprocessing.dataset.manifest import FileInfo, Manifest, SplitInfo
from preprocessing.dataset.opening import Dataset, Reading
from preprocessing.dataset.row_group import RowGroup
from preprocessing.dataset.row_group_reader import RowGroupReader
from preprocessing.dataset.split import Split
from preprocessing.dataset.verify import verify
from tests.lottery.datasets import write_dataset
from tests.lottery.s3_proxy import CREDENTIALS, s3_proxy

FILES = 150
# Reads every row, mapped, unmapped and by a cache, where but a few more files may be opened than are open.
MANY_FILES = """
import gc, os, resource, sys
import numpy as np
from preprocessing.dataset.opening import Dataset, Reading
from preprocessing.common.program import run_or_explain

def opened():
    return len(os.listdir("/proc/self/fd"))

path, cache = sys.argv[1:]
expected = np.load(path + ".npy")
everything = np.arange(len(expected))[::-1]
Dataset.open(path).split("train").gather(everything[:9])  # what the libraries open, they have opened
Dataset.open(path).split("train", Reading(mapped=False, threads=2)).gather(everything[:9])
before = opened()
resource.setrlimit(resource.RLIMIT_NOFILE, (before + 20,) * 2)
split = Dataset.open(path).split("train")
blobs, _ = split.stored(everything)
assert any(".parquet" in line for line in open("/proc/self/maps"))  # mapped
assert opened() <= before, opened()
for folder in (None, cache, cache):  # the second time from what was kept
    reading = Reading(folder, mapped=False, threads=2)
    other = Dataset.open(path).split("train", reading)
    pieces = list(other.stream([everything]))
    assert all(one.tobytes() == two.tobytes() for one, two in zip(pieces[0][0], blobs))
del split, other, pieces
gc.collect()
images = np.stack([np.frombuffer(blob.tobytes()[-16 * 16 * 3 :], np.uint8) for blob in blobs])
assert np.array_equal(images.reshape(-1, 16, 16, 3), expected[::-1])  # views outlive what gave them
del blobs
gc.collect()
left = [line for line in open("/proc/self/maps") if ".parquet" in line]
assert not left, left
while True:
    try:
        os.dup(0)
    except OSError:
        break
run_or_explain(lambda: Dataset.open(path) and 0)
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("limits") / "dataset"
    images, _ = write_dataset(str(path), {"train": [3] * FILES})["train"]
    np.save(f"{path}.npy", images)
    return path


def test_more_files_than_may_be_open_are_read(dataset: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MANY_FILES, dataset, tmp_path / "cache"], capture_output=True, text=True, check=False
    )
    assert done.returncode == EXIT_STORAGE, done.stderr
    remedy = "Too many open files; raise this machine's limit of open files, `ulimit -n`"
    assert done.stderr == f"error: cannot read {dataset}/manifest.json: {remedy}\n"


@pytest.mark.parametrize(
    ("number", "says"), [(errno.EMFILE, "ulimit -n"), (errno.EIO, "the disk fails"), (errno.EACCES, "permissions")]
)
@pytest.mark.parametrize("mapped", [True, False])
def test_a_file_that_the_machine_does_not_read_is_not_damaged(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str, mapped: bool
) -> None:
    split = Dataset.open(str(dataset)).split("train", Reading(mapped=mapped))

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "[Errno 0] Failed to open local file")

    monkeypatch.setattr(pq, "read_metadata", fail)
    monkeypatch.setattr(pq, "ParquetFile", fail)
    match = rf"^cannot read .*/train/part-00010\.parquet: {os.strerror(number)}; .*{says}"
    with pytest.raises(StorageError, match=match) as caught:
        split.gather(np.array([30]))
    assert caught.value.exit_status == EXIT_STORAGE
    with pytest.raises(StorageError, match=rf"part-00000\.parquet: {os.strerror(number)}; .*{says}"):
        verify(Dataset.open(str(dataset)))


def test_what_cannot_be_mapped_is_read(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unmappable:
        mmap = staticmethod(lambda *_: mapping._FAILED)

    fetched, fetch = [], RowGroupReader.fetch

    def noted(self: RowGroupReader, file: FileInfo, group: int) -> RowGroup:
        fetched.append((file.name, group))
        return fetch(self, file, group)

    monkeypatch.setattr(mapping, "_LIBC", Unmappable)
    monkeypatch.setattr(RowGroupReader, "fetch", noted)
    split = Dataset.open(str(dataset)).split("train")
    assert np.array_equal(split.gather(np.array([30, 5]))[0], np.load(f"{dataset}.npy")[[30, 5]])
    assert len(fetched) == 2


def test_a_network_that_fails_is_not_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with s3_proxy() as bucket:
        uri = bucket.uri("folder")
        write_dataset(uri, {"train": [3]})
        opened = Dataset.open(uri)
        bucket.deny = lambda request: (403, "AccessDenied") if request.headers.get("Range") else None
        for read in (lambda: verify(opened), lambda: opened.split("train").gather(np.array([0]))):
            with pytest.raises(StorageError, match=r"part-00000\.parquet: access is denied; check the credentials"):
                read()
        bucket.deny = lambda request: None
        key = "folder/train/part-00000.parquet"
        data = bucket.get(key)
        bucket.put(key, data[:-20] + b"\xff" * 12 + data[-8:])
        monkeypatch.setattr("preprocessing.common.retries.PAUSES", (0.0,))
        for read in (lambda: verify(opened), lambda: Dataset.open(uri).split("train").gather(np.array([0]))):
            with pytest.raises(InputError, match=r"part-00000\.parquet is damaged: .*thrift"):
                read()


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (
            OSError("Key 'ZSTD': AWS Error NETWORK_CONNECTION during GetObject"),
            StorageError,
            "no conn",
        ),
        (OSError("google::cloud::Status(UNAVAILABLE: decompress proxy)"), StorageError, "check the address"),
        (OSError("connection reset"), StorageError, "check the address"),
        (pa.lib.ArrowMemoryError("malloc of size 64 failed"), StorageError, "Cannot allocate memory; free some memory"),
        (OSError("Couldn't deserialize thrift: TProtocolException"), InputError, "is damaged: .*thrift"),
        (pa.ArrowInvalid("Parquet magic bytes not found in footer"), InputError, "is damaged"),
        (FileNotFoundError("x"), InputError, "is damaged: it is missing"),
    ],
)
def test_what_may_pass_is_storages_and_the_rest_the_datasets(
    error: Exception, kind: type[InputError], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kinds are told apart by the sweep: one is tried again, the other ends it."""
    monkeypatch.setattr("preprocessing.common.retries.PAUSES", (0.0,))
    store, file = open_store("s3://bucket/data"), FileInfo("train/part-0.parquet", 9, 1, 1, "0" * 64)
    monkeypatch.setattr(type(store), "open_input", lambda *_: (_ for _ in ()).throw(error))
    manifest = Manifest(
        hash="0", fingerprint="0", size=16, codec="tensor", quality=None, row_group_rows=8, classes=["a"],
        mean=(0.0, 0.0, 0.0), std=(0.0, 0.0, 0.0), splits={"train": SplitInfo(1, [1], [file])}, images_in=1,
        rejected=0, source={}, settings={}, software={},
    )  # fmt: skip
    with pytest.raises(InputError, match=rf"s3://bucket/data/train/part-0\.parquet.*{says}") as caught:
        Split(store, "train", manifest).gather(np.array([0]))
    assert type(caught.value) is kind
