"""WebDataset tars, TFRecord files and Tiny ImageNet's tree, made from class folders."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from preprocessing.sources.tfrecord_file import masked_crc
from tests.preprocessing.archives import tar_bytes


class Sample(NamedTuple):
    """An image of class folders."""

    split: str
    wnid: str
    name: str
    data: bytes

    @property
    def stem(self) -> str:
        return self.name.rsplit(".", 1)[0]


def samples(folders: Path, split: str) -> list[Sample]:
    """A split's images, classes mixed, in an order that is not that of their names."""
    paths = sorted((folders / split).glob("*/*.JPEG"), key=lambda path: path.name[::-1])
    return [Sample(split, path.parent.name, path.name, path.read_bytes()) for path in paths]


def write_shards(
    folders: Path,
    root: Path,
    shard: Callable[[Sequence[Sample]], bytes],
    name: str,
    splits: Sequence[str] = ("train", "val"),
) -> None:
    """Two shards a split; `name` has {split} and {number}."""
    root.mkdir(parents=True, exist_ok=True)
    for split in splits:
        images = samples(folders, split)
        half = len(images) // 2
        for number, part in enumerate((images[:half], images[half:])):
            path = root / name.format(split=split, number=number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(shard(part))


def cls_tar(part: Sequence[Sample], label: Callable[[str], str] = str) -> bytes:
    """A tar of KEY.JPEG and KEY.cls."""
    files = {}
    for image in part:
        files[image.name] = image.data
        files[f"{image.stem}.cls"] = label(image.wnid).encode()
    return tar_bytes(files)


def json_tar(part: Sequence[Sample], key: str = "label") -> bytes:
    """A tar of KEY.json and, after it, KEY.JPEG."""
    files = {}
    for image in part:
        files[f"./{image.stem}.json"] = json.dumps({key: image.wnid, "width": 3}).encode()
        files[f"./{image.name}"] = image.data
    return tar_bytes(files)


def slim_records(part: Sequence[Sample], synset: bool = True, label: Callable[[str], int] = len) -> bytes:
    """As TensorFlow's models write them."""
    return b"".join(
        framed(
            example(
                {
                    "image/height": 40,
                    "image/class/label": label(image.wnid),
                    **({"image/class/synset": image.wnid.encode()} if synset else {}),
                    "image/class/text": b"words of " + image.wnid.encode(),
                    "image/encoded": image.data,
                    "image/filename": image.name.encode(),
                    "image/object/bbox/xmin": 0.5,
                }
            )
        )
        for image in part
    )


def tfds_records(part: Sequence[Sample], label: Callable[[str], int]) -> bytes:
    """As TensorFlow Datasets writes them."""
    return b"".join(
        framed(example({"file_name": image.name.encode(), "image": image.data, "label": label(image.wnid)}))
        for image in part
    )


def framed(data: bytes) -> bytes:
    """A record of a TFRecord file."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def example(features: dict[str, bytes | int | float]) -> bytes:
    """A serialised `tf.train.Example`."""
    entries = b"".join(
        _bytes(1, _bytes(1, key.encode()) + _bytes(2, _feature(value))) for key, value in features.items()
    )
    return _bytes(1, entries)


def _feature(value: bytes | int | float) -> bytes:
    if isinstance(value, bytes):
        return _bytes(1, _bytes(1, value))
    if isinstance(value, int):
        return _bytes(3, _bytes(1, varint(value & (1 << 64) - 1)))
    return _bytes(2, _bytes(1, struct.pack("<f", value)))


def _bytes(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def write_tiny(folders: Path, root: Path) -> None:
    """Tiny ImageNet's tree."""
    for image in samples(folders, "train"):
        path = root / "train" / image.wnid / "images" / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image.data)
        (root / "train" / image.wnid / f"{image.wnid}_boxes.txt").write_text("0\t0\n")
    (root / "val" / "images").mkdir(parents=True)
    lines = []
    for image in samples(folders, "val"):
        (root / "val" / "images" / image.name).write_bytes(image.data)
        lines.append(f"{image.name}\t{image.wnid}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "test" / "images").mkdir(parents=True)
    (root / "test" / "images" / "test_0.JPEG").write_bytes(b"has no label")
    (root / "wnids.txt").write_text("n01440764\n")
    (root / "words.txt").write_text("n01440764\ttench, Tinca tinca\nn00001740\tentity\n")


def rename_classes(folders: Path, root: Path, name: Callable[[str], str]) -> None:
    """A copy of class folders in which the classes have other names."""
    for split in ("train", "val"):
        for folder in (folders / split).iterdir():
            shutil.copytree(folder, root / split / name(folder.name))
