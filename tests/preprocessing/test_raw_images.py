"""Raw images are fetched ahead, in the order of the rows, and never more of them than a task has memory for."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.storage import Store, open_store
from preprocessing.images import raw_images
from preprocessing.images.decode import Rejected, decode
from preprocessing.images.raw_images import RawImage, read_images
from preprocessing.job.convert import convert_shard
from preprocessing.job.settings import Settings
from preprocessing.job.shards import Shard, serialise
from preprocessing.sources.base import WHOLE_FILE
from tests.preprocessing.raw_images import jpeg


def table(rows: list[tuple[str, int, int]]) -> pa.Table:
    paths, offsets, lengths = zip(*rows, strict=True)
    ids = [f"{path} {offset}" for path, offset, _ in rows]
    return pa.table({"id": ids, "path": list(paths), "offset": list(offsets), "length": list(lengths)})


def read(root: Path, rows: list[tuple[str, int, int]]) -> list[RawImage]:
    return list(read_images(open_store(root), table(rows)))


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
    monkeypatch.setattr(raw_images, "WINDOW_IMAGES", window)
    names = sorted(blobs, reverse=True)
    found = read(tmp_path, [(name, WHOLE_FILE, len(blobs[name])) for name in names])
    assert found == [RawImage(f"{name} {WHOLE_FILE}", name, WHOLE_FILE, blobs[name]) for name in names]
    assert found[0].place == names[0]


def test_ranges_of_archives(tmp_path: Path, blobs: dict[str, bytes]) -> None:
    (tmp_path / "archive").write_bytes(b"".join(blobs.values()))
    rows, start = [], 0
    for data in blobs.values():
        rows.append(("archive", start, len(data)))
        start += len(data)
    found = read(tmp_path, rows[::-1])
    assert [(image.path, image.offset, len(image.data or b"")) for image in found] == rows[::-1]
    assert [image.data for image in found] == list(blobs.values())[::-1]
    assert found[-3].place == f"archive at byte {rows[2][1]}"


def test_few_are_fetched_ahead(tmp_path: Path, blobs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *how: opened.append(Path(path).name) or real(path, *how))
    monkeypatch.setattr(raw_images, "WINDOW_BYTES", 2000)
    rows = table([(name, WHOLE_FILE, len(data)) for name, data in blobs.items()])
    for number, image in enumerate(read_images(open_store(tmp_path), rows)):
        assert image.data == blobs[f"{number:03}"]
        ahead = sum(len(blobs[name]) for name in opened if name > f"{number:03}")
        assert ahead <= 3 * 2000
    assert len(opened) == 300


def test_what_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "huge.JPEG").open("wb") as file:
        file.truncate(10 << 30)  # a hole: no disk is used, but memory would be
    rows = table([("huge.JPEG", WHOLE_FILE, 10 << 30)])
    (image,) = read_images(open_store(tmp_path), rows)
    assert image.data is None
    with pytest.raises(Rejected, match="too large"):
        image.decode(16, np.empty((16, 16, 3), np.uint8))
    shard = Shard("train", 0, 1, serialise(rows.append_column("label", pa.array([0], pa.int32()))))
    record = convert_shard(shard, open_store(tmp_path), open_store(tmp_path / "out"), Settings(size=16), "f" * 64)
    assert record.file is None
    assert [image.reason for image in record.rejected] == ["too large"]
    assert not (tmp_path / "out" / "train" / "part-00000.parquet").exists()


def test_a_source_that_changed(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    for rows in ([("x", WHOLE_FILE, 6)], [("x", 3, 6)], [("y", WHOLE_FILE, 6)], [("y", 3, 6)]):
        with pytest.raises(
            InputError, match=r"has (changed|been deleted) since the source was listed.*: run the same"
        ) as caught:
            read(tmp_path, rows)
        assert type(caught.value) is InputError


@pytest.mark.parametrize("offset", [WHOLE_FILE, 2])
def test_a_failing_disk_is_not_bad_input(tmp_path: Path, offset: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "x").write_bytes(b"12345")
    monkeypatch.setattr(os, "read", fail)
    monkeypatch.setattr(Store, "open_input", fail)
    with pytest.raises(StorageError, match="cannot read .*/x: Input/output error; the disk fails") as caught:
        read(tmp_path, [("x", offset, 3)])
    assert type(caught.value) is StorageError


@pytest.mark.parametrize("using", [None, "other"])
def test_an_image_decodes_itself_in_any_process(using: str | None) -> None:
    data, out, seen = jpeg(40, 50), np.zeros((16, 16, 3), np.uint8), []

    def other(blob: bytes, size: int, pixels: NDArray[np.uint8]) -> None:
        seen.append(size)
        decode(blob, size, pixels)

    RawImage("c/x.JPEG", "x.JPEG", WHOLE_FILE, data).decode(16, out, *([other] if using else []))
    assert np.array_equal(out, decode(data, 16))
    assert seen == ([16] if using else [])
