"""Raw images are fetched ahead, in the order of the rows, and never more of them than a task has memory for."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from preprocessing.images import fetch
from preprocessing.images.fetch import read_images
from preprocessing.job.convert import convert_shard
from preprocessing.job.settings import Settings
from preprocessing.job.shards import Shard, serialise
from preprocessing.sources.base import WHOLE_FILE


def table(rows: list[tuple[str, int, int]]) -> pa.Table:
    paths, offsets, lengths = zip(*rows, strict=True)
    return pa.table({"path": list(paths), "offset": list(offsets), "length": list(lengths)})


@pytest.fixture
def blobs(tmp_path: Path) -> dict[str, bytes]:
    found = {f"{number:03}": bytes([number % 256]) * (number * 37 % 500) for number in range(300)}
    for name, data in found.items():
        (tmp_path / name).write_bytes(data)
    return found


@pytest.mark.parametrize("window", [1, 64])
def test_files_come_in_the_order_of_the_rows(
    tmp_path: Path, blobs: dict[str, bytes], window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "WINDOW_IMAGES", window)
    names = sorted(blobs, reverse=True)
    rows = table([(name, WHOLE_FILE, len(blobs[name])) for name in names])
    assert list(read_images(open_store(tmp_path), rows, 10**6)) == [blobs[name] for name in names]


def test_ranges_of_archives(tmp_path: Path, blobs: dict[str, bytes]) -> None:
    (tmp_path / "archive").write_bytes(b"".join(blobs.values()))
    rows, start = [], 0
    for data in blobs.values():
        rows.append(("archive", start, len(data)))
        start += len(data)
    assert list(read_images(open_store(tmp_path), table(rows[::-1]), 10**6)) == list(blobs.values())[::-1]


def test_few_are_fetched_ahead(tmp_path: Path, blobs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = fetch._Reader._read
    monkeypatch.setattr(fetch._Reader, "_read", lambda self, piece: read.append(piece.path) or real(self, piece))
    monkeypatch.setattr(fetch, "WINDOW_BYTES", 2000)
    rows = table([(name, WHOLE_FILE, len(data)) for name, data in blobs.items()])
    for number, data in enumerate(read_images(open_store(tmp_path), rows, 10**6)):
        assert data == blobs[f"{number:03}"]
        ahead = sum(len(blobs[name]) for name in read if name > f"{number:03}")
        assert ahead <= 3 * 2000
    assert len(read) == 300


def test_what_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "huge.JPEG").open("wb") as file:
        file.truncate(10 << 30)  # a hole: no disk is used, but memory would be
    rows = table([("huge.JPEG", WHOLE_FILE, 10 << 30)])
    assert list(read_images(open_store(tmp_path), rows, 1000)) == [None]
    full = rows.append_column("id", pa.array(["c/huge.JPEG"])).append_column("label", pa.array([0], pa.int32()))
    shard = Shard("train", 0, 1, serialise(full))
    record = convert_shard(shard, open_store(tmp_path), open_store(tmp_path / "out"), Settings(size=16), "f" * 64)
    assert record.file is None
    assert [image.reason for image in record.rejected] == ["too large"]
    assert not (tmp_path / "out" / "train" / "part-00000.parquet").exists()


def test_a_source_that_changed(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    for rows in ([("x", WHOLE_FILE, 6)], [("x", 3, 6)], [("y", WHOLE_FILE, 6)], [("y", 3, 6)]):
        with pytest.raises(InputError, match=r"(has changed|is gone) since the source was listed.*: run again"):
            list(read_images(open_store(tmp_path), table(rows), 1000))
