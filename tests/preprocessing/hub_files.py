"""Parquet files as on the Hugging Face hub, made from class folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.preprocessing.raw_images import CLASSES

TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def hub_table(
    rows: Sequence[tuple[int | None, str | None, bytes | None]], names: Sequence[str] | None, **columns: str
) -> pa.Table:
    """A table of (label, file name, bytes); `names` are the class names, None for no metadata at all."""
    image, label = columns.get("image", "image"), columns.get("label", "label")
    images = pa.array([{"bytes": data, "path": path} for _, path, data in rows], TYPE)
    table = pa.table({image: images, label: pa.array([row[0] for row in rows], pa.int64())})
    if names is None:
        return table
    features = {image: {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def rows_of(folders: Path, split: str, names: Sequence[str] = CLASSES) -> list[tuple[int, str, bytes]]:
    """The images of a split of class folders, in an order that mixes the classes."""
    paths = sorted((folders / split).glob("*/*.JPEG"), key=lambda path: (path.name[::-1], path.parent.name))
    return [(names.index(path.parent.name), path.name, path.read_bytes()) for path in paths]


NAMES = "data/{}-{:05}-of-{:05}.parquet"


def write_hub(folders: Path, root: Path, pattern: str = NAMES, files: int = 3, **options: Any) -> None:
    """The train and val of class folders as Parquet files named by `pattern`; `options` are those of `write_table`.

    Val is named as the option `val` says, by default validation.
    """
    options = {"compression": "snappy", "row_group_size": 5, **options}
    names = options.pop("names", CLASSES)
    for split, name in (("train", "train"), ("val", options.pop("val", "validation"))):
        rows = rows_of(folders, split)
        if not rows:
            continue
        step = -(-len(rows) // files)
        for number in range(files):
            path = root / pattern.format(name, number, files)
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(hub_table(rows[number * step : (number + 1) * step], names), path, **options)
