"""The cache on a local disk: shared, bounded, whole, and no more than a help."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from preprocessing.common.errors import InputError
from preprocessing.dataset.disk_cache import RowGroupCache
from preprocessing.dataset.manifest import FileInfo
from preprocessing.dataset.opening import Dataset, Reading
from preprocessing.dataset.row_group import RowGroup, to_bytes
from preprocessing.dataset.row_group_reader import RowGroupReader
from tests.preprocessing.raw_images import preprocess

ROW_GROUPS = 7  # of train in `made`: 20, 20 and 2 rows by 8


def everything(made: Path, reading: Reading) -> np.ndarray:
    images, labels = Dataset.open(str(made)).split("train", reading).gather(np.arange(42)[::-1])
    return np.concatenate([images.reshape(42, -1), labels[:, None].astype(np.uint8)], axis=1)


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.parent.name != "locks")


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What was fetched from the store."""
    log: list[tuple[str, int]] = []
    fetch = RowGroupReader.fetch

    def counted(self: RowGroupReader, file: FileInfo, group: int) -> RowGroup:
        log.append((file.name, group))
        return fetch(self, file, group)

    monkeypatch.setattr(RowGroupReader, "fetch", counted)
    return log


def cached(folder: Path, limit: int = 10**9) -> Reading:
    return Reading(str(folder), limit, mapped=False)


def test_a_second_reader_fetches_nothing(made: Path, tmp_path: Path, fetched: list[tuple[str, int]]) -> None:
    plain = everything(made, Reading())
    assert np.array_equal(everything(made, cached(tmp_path)), plain)
    assert len(fetched) == ROW_GROUPS
    assert np.array_equal(everything(made, cached(tmp_path)), plain)
    assert len(fetched) == ROW_GROUPS
    assert not list(tmp_path.rglob("*.tmp"))


def test_it_stays_within_its_bytes(made: Path, tmp_path: Path, fetched: list[tuple[str, int]]) -> None:
    plain, limit = everything(made, Reading()), 60_000
    for _ in range(3):
        del fetched[:]
        assert np.array_equal(everything(made, cached(tmp_path, limit)), plain)
        assert 0 < used(tmp_path) <= limit
    assert len(fetched) == ROW_GROUPS - 2  # what is there stays, so that every epoch is spared as much


def test_another_dataset_makes_room(raw: Path, made: Path, tmp_path: Path, fetched: list[tuple[str, int]]) -> None:
    preprocess(raw, tmp_path / "other", rows_per_shard=20, seed=1)
    cache, limit = tmp_path / "cache", 150_000
    everything(tmp_path / "other", cached(cache, limit))
    everything(made, cached(cache, limit))
    assert used(cache) <= limit
    del fetched[:]
    everything(made, cached(cache, limit))
    assert fetched == []


@pytest.mark.parametrize("damage", ["cut", "emptied", "other rows"])
def test_what_a_disk_lost_is_fetched_again(
    made: Path, tmp_path: Path, fetched: list[tuple[str, int]], damage: str
) -> None:
    plain = everything(made, cached(tmp_path))
    path = next(path for path in sorted(tmp_path.rglob("train-*")))
    data = path.read_bytes()
    path.write_bytes({"cut": data[:-5], "emptied": b"", "other rows": b"\x01" + data[1:]}[damage])
    del fetched[:]
    assert np.array_equal(everything(made, cached(tmp_path)), plain)
    assert len(fetched) == 1
    assert path.read_bytes() == data


def test_a_killed_writers_leavings_are_removed(made: Path, tmp_path: Path) -> None:
    everything(made, cached(tmp_path, 60_000))
    folder = next(path for path in tmp_path.iterdir() if path.name != "locks")
    leaving = folder / "train-8-0000000.0123.tmp"
    leaving.write_bytes(b"half")
    os.utime(leaving, (0, 0))
    everything(made, cached(tmp_path, 60_000))
    assert not leaving.exists()


def test_a_full_disk_ends_the_caching_and_not_the_reading(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = everything(made, Reading())

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert np.array_equal(everything(made, cached(tmp_path)), plain)
    assert caplog.text.count("No space left on device; reading on without it") == 1
    assert used(tmp_path) == 0


def test_a_folder_that_cannot_be_made_is_named(made: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=r"input\.cache_dir: .*/file/cache cannot be written to: .*; choose a folder"):
        everything(made, cached(tmp_path / "file" / "cache"))


def test_it_is_not_used_if_files_are_mapped(made: Path, tmp_path: Path) -> None:
    everything(made, Reading(str(tmp_path / "cache"), 10**9))
    assert not (tmp_path / "cache").exists()


def _read(made: str, folder: str, barrier: object, results: object) -> None:
    log = []
    fetch = RowGroupReader.fetch
    RowGroupReader.fetch = lambda self, file, group: log.append(group) or fetch(self, file, group)  # type: ignore[method-assign]
    barrier.wait(30)  # type: ignore[attr-defined]
    rows = everything(Path(made), cached(Path(folder)))
    results.put((len(log), rows.tobytes()))  # type: ignore[attr-defined]


@pytest.mark.cluster
def test_processes_share_what_each_fetched(made: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=_read, args=(str(made), str(tmp_path), barrier, results), daemon=True) for _ in range(3)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(30)
    assert sum(count for count, _ in found) == ROW_GROUPS  # each row group once, by one of them
    assert {rows for _, rows in found} == {everything(made, Reading()).tobytes()}


def group(number: int) -> RowGroup:
    """A row group of 8 images, all of whose bytes are `number`."""
    values = np.tile(np.frombuffer((4).to_bytes(4, "little") + bytes([number] * 4), np.uint8), 8)
    return RowGroup(values, range(4, 4 + 9 * 8, 8), np.zeros(8, np.int32))


def cache(folder: Path, limit: int) -> RowGroupCache:
    return RowGroupCache(str(folder), limit, "0" * 24, "jpeg", 16)


def test_what_others_are_about_to_write_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that finds the sum over the limit counts the files, while another has reserved bytes for one."""
    size = sum(part.nbytes for part in to_bytes(group(0)))
    limit = 2 * size + size // 2
    first, second, third = (cache(tmp_path, limit) for _ in range(3))
    first.get("a", lambda: group(0))
    real, begun = Path.open, []

    def meanwhile(path: Path, *arguments: object, **more: object) -> object:
        if path.suffix == ".tmp" and not begun:
            begun.append(path)
            third.get("c", lambda: group(2))
        return real(path, *arguments, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", meanwhile)
    second.get("b", lambda: group(1))
    assert begun
    assert used(tmp_path) == 2 * size <= limit


def test_a_reservation_that_fails_leaves_the_sum_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(part.nbytes for part in to_bytes(group(0)))
    cache(tmp_path, 3 * size).get("a", lambda: group(0))
    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        cache(tmp_path, 3 * size).get("b", lambda: group(1))
    last = cache(tmp_path, 3 * size)
    for name in "bcde":
        last.get(name, lambda: group(1))
    assert used(tmp_path) == 3 * size


@pytest.mark.parametrize("call", ["mkdir", "flock"])
def test_a_disk_that_is_full_or_has_no_locks_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    number = {"mkdir": errno.ENOSPC, "flock": errno.ENOLCK}[call]

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    made = cache(tmp_path, 10**6) if call == "flock" else None
    monkeypatch.setattr(*{"mkdir": (Path, "mkdir", refuse), "flock": (fcntl, "flock", refuse)}[call])
    found = (made or cache(tmp_path, 10**6)).get("a", lambda: group(7))
    assert found.blob(0).tolist() == [7] * 4
    assert caplog.messages == [f"input.cache_dir: {tmp_path}: {os.strerror(number)}; reading on without it"]
