"""Our Parquet files are read back by pyarrow, and their pages lie where docs/data-format.md says."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from preprocessing.dataset.parquet_writer import Column, Page, ParquetWriter
from preprocessing.dataset.schema import SCHEMA, blob_bytes, npy_header, stride
from preprocessing.dataset.shard_writer import ShardWriter


def write(path: Path, rows: int, size: int = 5, group: int = 8, codec: str = "tensor") -> ShardWriter:
    generator = np.random.default_rng(0)
    with ShardWriter(path, size, codec, 95, group) as writer:  # type: ignore[arg-type]
        for number in range(rows):
            writer.next_image()[:] = generator.integers(0, 256, (size, size, 3))
            writer.add(number % 3, f"class/ïmage {number}.JPEG")
    return writer


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 8 * 20 + 3])
def test_pyarrow_reads_all_rows(tmp_path: Path, rows: int) -> None:
    writer = write(tmp_path / "x.parquet", rows)
    file = pq.ParquetFile(tmp_path / "x.parquet")
    assert file.schema_arrow.equals(SCHEMA)
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
    assert sizes == [8] * (rows // 8) + ([rows % 8] if rows % 8 else [])
    assert (writer.rows, writer.row_groups) == (rows, len(sizes))
    table = file.read()
    generator = np.random.default_rng(0)
    for number, row in enumerate(table.to_pylist()):
        image = np.load(io.BytesIO(row["image"]))
        assert np.array_equal(image, generator.integers(0, 256, (5, 5, 3)))
        assert (row["label"], row["id"]) == (number % 3, f"class/ïmage {number}.JPEG")


def test_the_pixels_end_the_chunk_at_a_constant_stride(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", 19)
    data = (tmp_path / "x.parquet").read_bytes()
    metadata = pq.read_metadata(tmp_path / "x.parquet")
    for group, rows in enumerate((8, 8, 3)):
        column = metadata.row_group(group).column(0)
        assert (column.compression, column.has_dictionary_page, column.is_stats_set) == ("UNCOMPRESSED", False, False)
        end = column.data_page_offset + column.total_compressed_size
        for row in range(rows):
            start = end - (rows - row) * stride(5)
            assert data[start : start + 4] == blob_bytes(5).to_bytes(4, "little")
            assert data[start + 4 : start + 132] == npy_header(5)


def test_the_header_is_numpys() -> None:
    for size in (1, 8, 224, 4096):
        sink = io.BytesIO()
        np.save(sink, np.zeros((size, size, 3), np.uint8)) if size < 1000 else None
        assert len(npy_header(size)) == 128
        if size < 1000:
            assert sink.getvalue()[:128] == npy_header(size)


def test_sums_are_exact(tmp_path: Path) -> None:
    for size in (5, 64):
        writer = write(tmp_path / "x.parquet", 19, size)
        images = np.stack(
            [np.load(io.BytesIO(blob)) for blob in pq.read_table(tmp_path / "x.parquet")["image"].to_pylist()]
        )
        pixels = images.reshape(-1, 3).astype(np.int64)
        assert np.array_equal(writer.pixel_sum, pixels.sum(axis=0))
        assert np.array_equal(writer.pixel_square_sum, (pixels**2).sum(axis=0))
        assert writer.class_counts == {0: 7, 1: 6, 2: 6}


@pytest.mark.parametrize("value", [0, 255])
def test_sums_of_flat_images_are_exact(tmp_path: Path, value: int) -> None:
    with ShardWriter(tmp_path / "x.parquet", 256, "tensor", 95, 8) as writer:
        writer.next_image()[:] = value
        writer.add(0, "x")
    assert writer.pixel_sum == [value * 65536] * 3
    assert writer.pixel_square_sum == [value**2 * 65536] * 3


def test_the_hash_covers_pixels_labels_ids_and_order(tmp_path: Path) -> None:
    def hash_of(rows: list[tuple[int, int, str]]) -> str:
        with ShardWriter(tmp_path / "x.parquet", 4, "tensor", 95, 8) as writer:
            for value, label, name in rows:
                writer.next_image()[:] = value
                writer.add(label, name)
        return writer.file_hash

    rows = [(1, 0, "a"), (2, 1, "b")]
    others = [[(1, 0, "a"), (3, 1, "b")], [(1, 0, "a"), (2, 0, "b")], [(1, 0, "a"), (2, 1, "c")], rows[::-1], rows[:1]]
    assert hash_of(rows) == hash_of(rows)
    assert len({hash_of(rows), *(hash_of(other) for other in others)}) == 6


def test_a_sink_that_takes_a_little_at_a_time() -> None:
    class Slow(io.BytesIO):
        def write(self, data: memoryview, /) -> int:  # type: ignore[override]
            return super().write(data[:7])

    slow, fast = Slow(), io.BytesIO()
    for sink in (slow, fast):
        writer = ParquetWriter(sink, [Column("number", "int32")])
        writer.write_row_group(100, [Page.of(np.arange(100, dtype="<i4").tobytes())])
        writer.close()
    assert slow.getvalue() == fast.getvalue()
    assert pq.read_table(io.BytesIO(fast.getvalue()))["number"].to_pylist() == list(range(100))


def test_an_exception_leaves_no_footer(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), ShardWriter(tmp_path / "x.parquet", 4, "tensor", 95, 8) as writer:
        writer.add(1 // 0, "x")
    assert not (tmp_path / "x.parquet").read_bytes().endswith(b"PAR1PAR1")
    with pytest.raises(Exception, match=r"magic|too small|smaller"):
        pq.read_metadata(tmp_path / "x.parquet")
