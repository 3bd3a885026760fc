"""`manifest.json`: what a dataset holds. It is written last; a folder without one is not a dataset."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import msgspec

from preprocessing.common.errors import InputError
from preprocessing.common.storage import Store
from preprocessing.dataset.schema import Codec

MANIFEST = "manifest.json"
LABELS = "labels.json"
REJECTED = "rejected.parquet"
COMMON_METADATA = "_common_metadata"  # petastorm's, in the folder of each split
FORMAT: Literal["lottery-trellis-dataset"] = "lottery-trellis-dataset"
VERSION: Literal[1] = 1


class FileInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One Parquet file: its name below the dataset, size in bytes, rows, row groups and file hash."""

    name: str
    bytes: int
    rows: int
    row_groups: int
    hash: str


class SplitInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One split: images, images per class in the order of the labels, and its files in the order of the rows."""

    count: int
    class_counts: list[int]
    files: list[FileInfo]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `manifest.json`.

    `mean` and `std` are per channel (R, G, B), in 0..255, over every pixel of train. `fingerprint` is the job
    fingerprint, which is known before any image is decoded; `hash` is the content hash.
    """

    format: Literal["lottery-trellis-dataset"] = FORMAT
    version: Literal[1] = VERSION
    hash: str
    fingerprint: str
    size: int
    codec: Codec
    quality: int | None
    row_group_rows: int
    classes: list[str]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    splits: dict[str, SplitInfo]
    images_in: int
    rejected: int
    source: dict[str, Any]
    settings: dict[str, Any]
    software: dict[str, str]

    def to_json(self) -> bytes:
        """The file's bytes: indented JSON with a newline at its end."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


def content_hash(size: int, codec: Codec, classes: list[str], splits: dict[str, SplitInfo]) -> str:
    """The content hash: sha256 (hex) of the rows; independent of location, time and software versions."""
    content = {
        "format": [FORMAT, VERSION],
        "size": size,
        "codec": codec,
        "classes": classes,
        "splits": {name: [[file.rows, file.hash] for file in info.files] for name, info in splits.items()},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_manifest(store: Store) -> Manifest | None:
    """The dataset's manifest, or None if there is none; `InputError` if it cannot be read or contradicts itself."""
    try:
        data = store.read(MANIFEST)
    except FileNotFoundError:
        return None
    remedy = "make the dataset again with jobs/preprocess.py --overwrite"
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except ValueError as error:  # msgspec's own, or Unicode's
        raise InputError(f"{store.describe(MANIFEST)} cannot be read ({error}); {remedy}") from error
    problem = _inconsistency(manifest)
    if problem:
        raise InputError(f"{store.describe(MANIFEST)} contradicts itself ({problem}); {remedy}")
    return manifest


def _inconsistency(manifest: Manifest) -> str | None:
    if manifest.size < 1 or manifest.row_group_rows < 1:
        return "size and row_group_rows must be positive"
    if manifest.classes != sorted(set(manifest.classes)):
        return "classes are not sorted and distinct"
    for name, info in manifest.splits.items():
        if sum(file.rows for file in info.files) != info.count:
            return f"the files of {name} do not hold its {info.count} images"
        if len(info.class_counts) != len(manifest.classes) or sum(info.class_counts) != info.count:
            return f"the class counts of {name} are not those of its {info.count} images"
        for file in info.files:
            if not file.name.startswith(f"{name}/") or ".." in file.name.split("/"):
                return f"file {file.name!r} is not in folder {name}"
    rows = sum(info.count for info in manifest.splits.values())
    if rows + manifest.rejected != manifest.images_in:
        return f"{manifest.images_in} images in, but {rows} rows and {manifest.rejected} rejected"
    if manifest.hash != content_hash(manifest.size, manifest.codec, manifest.classes, manifest.splits):
        return "its hash does not match its content"
    return None
