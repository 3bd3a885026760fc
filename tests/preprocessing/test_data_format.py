"""A second reader, written from docs/data-format.md alone: it imports nothing of ours."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray


def pages(data: bytes, path: Path) -> list[list[bytes]]:
    """For each row group the pages of its columns, without their headers, from the footer and PLAIN's lengths."""
    metadata = pq.read_metadata(path)
    found = []
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        columns = []
        for number in range(3):
            chunk = metadata.row_group(group).column(number)
            start, end = chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size
            bodies = (data[start + skip : end] for skip in range(10, 64))  # a page's header has fewer than 64 bytes
            columns.append(next(body for body in bodies if _is_page(body, rows, number == 1)))
        found.append(columns)
    return found


def _is_page(body: bytes, rows: int, numbers: bool) -> bool:
    if numbers:
        return len(body) == 4 * rows
    position = 0
    for _ in range(rows):
        position += 4 + int.from_bytes(body[position : position + 4], "little")
    return position == len(body)


def second_reader(root: Path, split: str) -> tuple[NDArray[np.uint8], list[int], list[str]]:
    manifest = json.loads((root / "manifest.json").read_text())
    assert (manifest["format"], manifest["version"]) == ("lottery-trellis-dataset", 1)
    size = manifest["size"]
    stride = 4 + 128 + 3 * size * size
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size}, {size}, 3), }}".encode()
    head = b"\x93NUMPY\x01\x00\x76\x00" + text
    head += b" " * (127 - len(head)) + b"\n"
    images, labels, ids = [], [], []
    for file in manifest["splits"][split]["files"]:
        path = root / file["name"]
        data = path.read_bytes()
        assert len(data) == file["bytes"]
        metadata = pq.read_metadata(path)
        assert (metadata.num_rows, metadata.num_row_groups) == (file["rows"], file["row_groups"])
        for group, (_, label, name) in enumerate(pages(data, path)):
            chunk = metadata.row_group(group).column(0)
            n = metadata.row_group(group).num_rows
            start = chunk.data_page_offset + chunk.total_compressed_size - n * stride
            assert 0 < start - chunk.data_page_offset < 64
            for row in range(n):
                at = start + row * stride
                assert data[at : at + 132] == (128 + 3 * size * size).to_bytes(4, "little") + head
                images.append(np.frombuffer(data[at + 132 : at + stride], np.uint8).reshape(size, size, 3))
            labels += np.frombuffer(label, "<i4").tolist()
            position = 0
            for _ in range(n):
                length = int.from_bytes(name[position : position + 4], "little")
                ids.append(name[position + 4 : position + 4 + length].decode())
                position += 4 + length
    return np.stack(images), labels, ids


def test_a_reader_from_the_page(made: Path) -> None:
    from preprocessing.dataset.opening import Dataset

    images, labels, ids = second_reader(made, "train")
    ours, our_labels = Dataset.open(str(made)).split("train").gather(np.arange(42))
    assert np.array_equal(images, ours)
    assert labels == our_labels.tolist()
    manifest = json.loads((made / "manifest.json").read_text())
    assert all(manifest["classes"][label] == name.split("/")[0] for label, name in zip(labels, ids, strict=True))
    assert np.allclose(images.reshape(-1, 3).mean(axis=0), manifest["mean"])
    assert np.allclose(images.reshape(-1, 3).std(axis=0), manifest["std"])


def test_hashes_from_the_page(made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_text())
    splits: dict[str, Any] = {}
    for name, split in manifest["splits"].items():
        splits[name] = []
        for file in split["files"]:
            path = made / file["name"]
            digest = hashlib.sha256()
            for images, labels, ids in pages(path.read_bytes(), path):
                digest.update(zlib.crc32(images).to_bytes(4, "little") + labels + ids)
            assert digest.hexdigest() == file["hash"]
            splits[name].append([file["rows"], file["hash"]])
    content = {
        "classes": manifest["classes"],
        "codec": manifest["codec"],
        "format": ["lottery-trellis-dataset", 1],
        "size": manifest["size"],
        "splits": splits,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == manifest["hash"]
