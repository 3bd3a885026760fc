"""Both ways to read give the same bytes; what is not as it should be is named, and a stream stays bounded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.common.errors import InputError
from preprocessing.dataset import split as reading_module
from preprocessing.dataset.manifest import FileInfo
from preprocessing.dataset.opening import Dataset, Reading
from preprocessing.dataset.plain_pages import locate_chunks, values
from preprocessing.dataset.prefetch import read_ahead
from preprocessing.dataset.row_group import RowGroup
from preprocessing.dataset.row_group_reader import RowGroupReader
from tests.preprocessing.raw_images import DAMAGES, do_damage, preprocess

FAR = Reading(mapped=False, threads=3)


@pytest.fixture(scope="module", params=["tensor", "jpeg"])
def dataset(request: pytest.FixtureRequest, raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    output = tmp_path_factory.mktemp("dataset") / request.param
    preprocess(raw, output, codec=request.param, rows_per_shard=20)
    return Dataset.open(str(output))


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The files and numbers of the row groups that are read, not mapped."""
    found: list[tuple[str, int]] = []
    fetch = RowGroupReader.fetch

    def noted(self: RowGroupReader, file: FileInfo, group: int) -> RowGroup:
        found.append((file.name, group))
        return fetch(self, file, group)

    monkeypatch.setattr(RowGroupReader, "fetch", noted)
    return found


def test_every_row_group_that_we_write_is_mapped(dataset: Dataset, fetched: list[tuple[str, int]]) -> None:
    split = dataset.split("train")
    split.gather(np.arange(split.count))
    assert fetched == []


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_both_paths_give_the_same_rows(dataset: Dataset, data: st.DataObject) -> None:
    near, far = dataset.split("train"), dataset.split("train", FAR)
    index = st.integers(0, near.count - 1)
    pieces = data.draw(st.lists(st.lists(index, max_size=20), max_size=6))
    streams = [split.stream(np.array(piece, np.int64) for piece in pieces) for split in (near, far)]
    for piece, one, other in zip(pieces, *streams, strict=True):
        assert [blob.tobytes() for blob in one[0]] == [blob.tobytes() for blob in other[0]]
        assert np.array_equal(one[1], other[1])
        gathered, labels = far.gather(np.array(piece, np.int64))
        assert np.array_equal(labels, one[1])
        for image, blob, row in zip(gathered, one[0], piece, strict=True):
            assert np.array_equal(image, near.image(blob, row))


def _rewrite(dataset: Path, **options: object) -> None:
    """Writes every file of a dataset anew, as other tools would, and puts the sizes into the manifest."""
    manifest = json.loads((dataset / "manifest.json").read_bytes())
    for split in manifest["splits"].values():
        for file in split["files"]:
            path = dataset / file["name"]
            table = pq.read_table(path)
            pq.write_table(table, path, row_group_size=manifest["row_group_rows"], store_schema=False, **options)
            file["bytes"] = path.stat().st_size
    (dataset / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zstd"},
        {"use_dictionary": True, "compression": "none"},
        {"use_dictionary": False, "compression": "none", "data_page_size": 5000, "write_batch_size": 1},
        {"use_dictionary": False, "compression": "none", "data_page_version": "2.0"},
    ],
    ids=["compressed", "dictionary", "many pages", "pages of version 2"],
)
def test_other_layouts_are_read_all_the_same(
    made: Path, tmp_path: Path, options: dict[str, object], fetched: list[tuple[str, int]]
) -> None:
    plain, expected = Dataset.open(str(made)).split("train"), np.arange(42)[::-1]
    _rewrite(Path(shutil.copytree(made, tmp_path / "other")), **options)
    split = Dataset.open(str(tmp_path / "other")).split("train")
    for one, other in zip(split.gather(expected), plain.gather(expected), strict=True):
        assert np.array_equal(one, other)
    assert {name for name, _ in fetched} == {f"train/{path.name}" for path in (made / "train").glob("*.parquet")}


def test_plain_pages_are_known_from_their_header(made: Path) -> None:
    path = made / "train" / "part-00000.parquet"
    place = locate_chunks(pq.read_metadata(path), 0)
    assert place is not None
    chunk = np.fromfile(path, np.uint8)[place.images.start : place.images.end]
    assert values(chunk, place.rows) is not None
    assert values(chunk, place.rows + 1) is None
    for cut in range(40):
        values(chunk[:cut], place.rows)  # whatever it is, it is no exception
    damaged = chunk.copy()
    damaged[0] ^= 0xFF
    assert values(damaged, place.rows) is None


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copied"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_met_by_a_stream_is_named(copied: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    do_damage(copied / "train" / "part-00001.parquet", damage)
    split = Dataset.open(str(copied)).split("train", FAR)
    pieces = np.split(np.arange(42), 6)

    def read() -> None:
        for rows, (blobs, _) in zip(pieces, split.stream(pieces), strict=True):
            for row, blob in zip(rows, blobs, strict=True):
                split.image(blob, row)

    pauses: list[float] = []
    monkeypatch.setattr("preprocessing.common.retries.time.sleep", pauses.append)
    with pytest.raises(InputError, match=r"train/part-00001\.parquet is damaged: .*; copy the file again") as caught:
        read()
    assert "\n" not in str(caught.value)
    assert pauses == []  # a local disk is not asked again and again


def test_a_mapped_file_that_is_cut_short_is_noticed(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = Dataset.open(str(copied)).split("train")
    split.gather(np.arange(42))
    path = copied / "train" / "part-00000.parquet"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    monkeypatch.setattr("preprocessing.dataset.row_groups.CHECK_SECONDS", -1.0)
    with pytest.raises(InputError, match=r"part-00000\.parquet is damaged: it has .* bytes, the manifest says"):
        split.gather(np.arange(42))


def test_a_file_deleted_while_mapped_is_read_to_its_end(copied: Path) -> None:
    split = Dataset.open(str(copied)).split("train")
    before, _ = split.gather(np.arange(42))
    shutil.rmtree(copied)
    after, _ = split.gather(np.arange(42))
    assert np.array_equal(before, after)


class Fetches:
    """Stands for a far store: counts what is held and how many are at work at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.log: list[int] = []
        self.at_once = self.most_at_once = 0

    def __call__(self, number: int) -> int:
        with self.lock:
            self.log.append(number)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(0.001)
        with self.lock:
            self.at_once -= 1
        return number * 10


def test_reading_ahead_is_bounded_and_fetches_once() -> None:
    fetch = Fetches()
    windows = [list(range(first, first + 4)) for first in range(0, 40, 4)]
    pieces = [window for window in windows for _ in range(5)]
    farthest = 0
    for place, found in enumerate(read_ahead(pieces, fetch, lambda _: 100, threads=3, budget=800)):
        assert found == {number: number * 10 for number in pieces[place]}
        farthest = max(farthest, max(fetch.log) - pieces[place][0])
    assert sorted(fetch.log) == list(range(40))
    assert fetch.most_at_once <= 3
    assert farthest >= 4  # the next window was on its way


def test_reading_ahead_stops_at_its_budget() -> None:
    fetch = Fetches()

    def fetched(count: int) -> list[int]:
        """What is fetched, once it is as much as that, and had the time to become more."""
        deadline = time.monotonic() + 60
        while len(fetch.log) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        return sorted(fetch.log)

    stream = read_ahead([[number] for number in range(100)], fetch, lambda _: 100, threads=3, budget=800)
    next(stream)
    assert fetched(8) == list(range(8))
    next(stream)
    next(stream)
    assert fetched(10) == list(range(10))


def test_reading_ahead_gives_errors_in_their_turn_and_can_be_left() -> None:
    def fetch(number: int) -> int:
        if number == 3:
            raise InputError("no. 3")
        return number

    stream = read_ahead([[0], [1, 2], [3], [4]], fetch, lambda _: 1, threads=2, budget=100)
    assert next(stream) == {0: 0}
    assert next(stream) == {1: 1, 2: 2}
    with pytest.raises(InputError, match=r"no\. 3"):
        next(stream)

    def endless() -> Iterator[list[int]]:
        number = 0
        while True:
            yield [number]
            number += 1

    left = read_ahead(endless(), lambda number: number, lambda _: 1, threads=2, budget=10)
    assert next(left) == {0: 0}
    left.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("read-ahead") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@settings(max_examples=50, deadline=None)
@given(
    pieces=st.lists(st.lists(st.integers(0, 9), unique=True, max_size=5), max_size=20),
    budget=st.integers(0, 30),
    threads=st.integers(1, 4),
)
def test_reading_ahead_gives_every_piece(pieces: list[list[int]], budget: int, threads: int) -> None:
    found = list(read_ahead(pieces, lambda number: -number, lambda number: number, threads, budget))
    assert found == [{number: -number for number in piece} for piece in pieces]


def test_a_stream_fetches_each_row_group_once(
    made: Path, fetched: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "READ_AHEAD_BYTES", 100_000)
    monkeypatch.setattr("preprocessing.dataset.row_groups.MEMORY_CACHE_BYTES", 1)
    split = Dataset.open(str(made)).split("train", FAR)
    for _ in split.stream(np.split(np.arange(42), 14)):
        pass
    assert len(fetched) == len(set(fetched)) == len(split.row_group_starts) - 1


def test_the_quick_allocator_is_set() -> None:
    code = "import preprocessing.dataset.opening, pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    environment = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    child = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, check=True)
    assert child.stdout.split() == [b"mimalloc"]
