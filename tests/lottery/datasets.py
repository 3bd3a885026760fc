"""Datasets of random pixels, in the format of the preprocessing."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from preprocessing.common.storage import open_store
from preprocessing.dataset.manifest import FileInfo, Manifest, SplitInfo, content_hash
from preprocessing.dataset.schema import SCHEMA, npy_header


def write_dataset(
    uri: str,
    counts: dict[str, list[int]],
    *,
    size: int = 16,
    codec: str = "tensor",
    row_group_rows: int = 8,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Writes a dataset to a path or URI: for each split the rows of each of its files. Its images and labels."""
    store, random = open_store(uri), np.random.default_rng(0)
    splits, everything = {}, {}
    classes = ["a", "b", "c"]
    for split, files in counts.items():
        images = random.integers(0, 256, (sum(files), size, size, 3), dtype=np.uint8)
        labels = random.integers(0, len(classes), sum(files)).astype(np.int32)
        if codec == "jpeg":
            blobs = [bytes(simplejpeg.encode_jpeg(image, quality=95, colorspace="RGB")) for image in images]
            images = np.stack([simplejpeg.decode_jpeg(blob, colorspace="RGB") for blob in blobs])
        else:
            blobs = [npy_header(size) + image.tobytes() for image in images]
        infos = []
        for number, end in enumerate(np.cumsum(files)):
            rows = slice(end - files[number], end)
            columns = [pa.array(blobs[rows], pa.binary()), pa.array(labels[rows]), pa.array(["x"] * files[number])]
            sink = io.BytesIO()
            options = {"compression": "NONE", "use_dictionary": False, "write_statistics": False}
            pq.write_table(
                pa.Table.from_arrays(columns, schema=SCHEMA),
                sink,
                row_group_size=row_group_rows,
                data_page_size=1 << 30,
                store_schema=False,
                **options,
            )
            name = f"{split}/part-{number:05}.parquet"
            store.write(name, sink.getvalue())
            groups = -(-files[number] // row_group_rows)
            infos.append(FileInfo(name, len(sink.getvalue()), files[number], groups, f"{number}"))
        splits[split] = SplitInfo(sum(files), np.bincount(labels, minlength=len(classes)).tolist(), infos)
        everything[split] = images, labels
    manifest = Manifest(
        hash=content_hash(size, codec, classes, splits),
        fingerprint="",
        size=size,
        codec=codec,
        quality=None,
        row_group_rows=row_group_rows,
        classes=classes,
        mean=(127.0,) * 3,
        std=(74.0,) * 3,
        splits=splits,
        images_in=sum(info.count for info in splits.values()),
        rejected=0,
        source={},
        settings={},
        software={},
    )
    store.write("manifest.json", manifest.to_json())
    return everything


def local_dataset(folder: Path, **options: object) -> tuple[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Makes a dataset of 100 training and 21 evaluation images in `folder`; returns its path, images and labels."""
    uri = str(folder / "dataset")
    return uri, write_dataset(uri, {"train": [40, 40, 20], "val": [21]}, **options)
