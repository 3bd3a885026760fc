"""idx files and CIFAR's binary archives: every pixel and label is what the files say; damage is named in one line."""

from __future__ import annotations

import io
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from preprocessing.dataset.opening import Dataset
from preprocessing.sources.base import SourceOptions
from preprocessing.sources.layouts import open_source
from tests.preprocessing.archives import gzip_bytes
from tests.preprocessing.pixel_files import (
    NAMES_10,
    Pixels,
    archive,
    cifar10_files,
    cifar100_files,
    grays,
    idx,
    write_files,
    write_idx,
)
from tests.preprocessing.raw_images import no_spark, photo, preprocess

LABELS = [3, 0, 1, 2, 1, 3, 0, 2, 0, 1, 2, 3]
TRAIN, TEST = grays(12), grays(4, seed=50)
SPLITS = {"train": (TRAIN, LABELS), "t10k": (TEST, [3, 2, 1, 0])}


def rows(dataset: Path, split: str) -> dict[str, tuple[str, Pixels]]:
    """The class and pixels of every image by its id."""
    classes = Dataset.open(str(dataset)).manifest.classes
    found = {}
    for path in (dataset / split).glob("*.parquet"):
        table = pq.read_table(path)
        columns = (table.column(name).to_pylist() for name in ("id", "label", "image"))
        for name, label, image in zip(*columns, strict=True):
            found[name] = classes[label], np.load(io.BytesIO(image))
    return found


def check_gray(dataset: Path, images: Pixels = TRAIN) -> None:
    for name, (label, pixels) in rows(dataset, "train").items():
        number = int(name.rsplit("-", 1)[1])
        assert label == str(LABELS[number])
        assert name == f"{label}/train-{number:06}"
        assert np.array_equal(pixels, np.repeat(images[number][:, :, None], 3, axis=2))


@pytest.mark.parametrize(
    "name", ["{split}-{what}-idx{n}-ubyte.gz", "{split}-{what}-idx{n}-ubyte", "{split}-{what}.idx{n}-ubyte"]
)
def test_idx_files_give_exactly_their_pixels(tmp_path: Path, name: str) -> None:
    write_idx(tmp_path / "raw", SPLITS, name)
    manifest = preprocess(tmp_path / "raw", tmp_path / "out", size=28)
    assert manifest.source["layout"] == "idx"
    assert {split: info.class_counts for split, info in manifest.splits.items()} == {"train": [3] * 4, "val": [1] * 4}
    assert manifest.source["skipped"] == {
        "read for labels or names": {"files": 2, "first": name.format(split="t10k", what="labels", n=1)}
    }
    check_gray(tmp_path / "out")
    assert not (tmp_path / "out" / "_work").exists()


def test_emnist_is_transposed_and_its_mapping_has_labels_and_names(tmp_path: Path) -> None:
    letters = {"train": (TRAIN.transpose(0, 2, 1), [label + 1 for label in LABELS]), "test": (TEST, [1, 2, 3, 4])}
    name = "emnist-letters-{split}-{what}-idx{n}-ubyte.gz"
    write_idx(tmp_path / "raw", letters, name)
    with pytest.raises(InputError, match="labels from 1 to 4, and nothing says whether"):
        preprocess(tmp_path / "raw", tmp_path / "out", start=no_spark)
    (tmp_path / "raw" / "emnist-letters-mapping.txt").write_text("1 65 97\n2 66 98\n3 67 99\n4 68 100\n")
    manifest = preprocess(tmp_path / "raw", tmp_path / "out", size=28)
    assert manifest.classes == ["A a", "B b", "C c", "D d"]
    assert sum(found["files"] for found in manifest.source["skipped"].values()) == 3
    for name, (label, pixels) in rows(tmp_path / "out", "train").items():
        number = int(name.rsplit("-", 1)[1])
        assert label == manifest.classes[LABELS[number]]
        assert np.array_equal(pixels[:, :, 0], TRAIN[number])


def test_characters_that_cannot_be_stored_are_written_out(tmp_path: Path) -> None:
    write_idx(tmp_path / "raw", {"train": (TRAIN, LABELS)}, "emnist-x-{split}-{what}-idx{n}-ubyte")
    (tmp_path / "raw" / "emnist-x-mapping.txt").write_text("0 65\n1 55296\n2 10\n3 66\n")
    assert preprocess(tmp_path / "raw", tmp_path / "out", size=28).classes == ["A", "B", r"\n", r"\ud800"]


def test_an_unpacked_file_goes_before_a_gzipped_one(tmp_path: Path) -> None:
    write_idx(tmp_path / "raw", SPLITS)
    write_idx(tmp_path / "raw", SPLITS, "{split}-{what}-idx{n}-ubyte")
    manifest = preprocess(tmp_path / "raw", tmp_path / "out", size=28)
    assert manifest.source["skipped"]["no image extension"] == {"files": 4, "first": "t10k-images-idx3-ubyte.gz"}


def test_options_choose_images_of_idx_files(tmp_path: Path) -> None:
    write_idx(tmp_path / "raw", SPLITS)
    options = {"classes": ("0", "3"), "images_per_class": 2, "holdout": 2}
    manifest = preprocess(tmp_path / "raw", tmp_path / "out", size=28, **options)
    counts = {split: info.class_counts for split, info in manifest.splits.items()}
    assert counts == {"train": [1, 1], "minival": [1, 1], "val": [1, 1]}
    assert manifest.source["skipped"]["not chosen"]["files"] == 16 - 6
    check_gray(tmp_path / "out")


IMAGES, MARKS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
Spoil = Callable[[Path], Any]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: (root / MARKS).unlink(), r"train-images-idx3-ubyte\.gz has no labels beside it"),
        (lambda root: (root / IMAGES).unlink(), r"train-labels-idx1-ubyte\.gz has no images beside it"),
        (lambda root: cut(root / IMAGES), r"train-images.*\.gz is damaged \(.*\): download it again"),
        (lambda root: cut(root / MARKS), r"train-labels.*\.gz is damaged \(.*\): download it again"),
        (lambda root: flip(root / IMAGES), r"train-images.*\.gz is damaged \(.*\): download it again"),
        (lambda root: packed(root / IMAGES, idx(TRAIN)[:-1]), r"is cut short: 1 bytes are missing"),
        (lambda root: packed(root / MARKS, b"\0\0\x08\x01"), r"is cut short: it ends within the header"),
        (lambda root: packed(root / IMAGES, idx(TRAIN) + b"x"), "has more bytes than its header says"),
        (lambda root: packed(root / IMAGES, idx(TRAIN[0])), r"is not an idx file of images: it begins with b'\\x00"),
        (lambda root: packed(root / MARKS, b"<html>login"), "is not an idx file of labels: it begins with b'<htm'"),
        (lambda root: packed(root / MARKS, idx(np.array(LABELS[1:], np.uint8))), "has 12 images and .* 11 labels"),
        (
            lambda root: packed(root / IMAGES, b"\0\0\x08\x03" + struct.pack(">3I", 12, 1 << 20, 28)),
            "says that it has 12 x 1,048,576 x 28 images",
        ),
        (
            lambda root: packed(root / "t10k-labels-idx1-ubyte.gz", idx(np.array([3, 2, 1, 9], np.uint8))),
            "has labels of class 9, which train does not have",
        ),
        (lambda root: write_idx(root, {"test": SPLITS["t10k"]}), "has both t10k and test"),
        (
            lambda root: write_idx(root, SPLITS, "emnist-digits-{split}-{what}-idx{n}-ubyte"),
            "has several sets of idx files",
        ),
    ],
)
def test_damaged_idx_files(tmp_path: Path, spoil: Spoil, says: str) -> None:
    write_idx(tmp_path / "raw", SPLITS)
    spoil(tmp_path / "raw")
    with pytest.raises(InputError, match=says) as caught:
        preprocess(tmp_path / "raw", tmp_path / "out", start=no_spark)
    assert type(caught.value) is InputError
    assert "\n" not in str(caught.value)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-6] ^= 255
    path.write_bytes(data)


def packed(path: Path, data: bytes) -> None:
    path.write_bytes(gzip_bytes(data))


def check_cifar10(dataset: Path) -> None:
    for split in ("train", "val"):
        for name, (label, pixels) in rows(dataset, split).items():
            batch, number = name.split("/")[1].rsplit("-", 1)
            seed = (50 if batch == "test_batch" else 10 * int(batch[-1]) - 10) + int(number)
            assert label == NAMES_10[seed % 10]
            assert np.array_equal(pixels, photo(32, 32, seed))


FOLDER = "cifar-10-batches-bin"


@pytest.mark.parametrize("form", ["tar.gz", "tar", "folder", "files"])
def test_cifar_10_in_every_form(tmp_path: Path, form: str) -> None:
    root, files = tmp_path / "raw", cifar10_files()
    if form == "tar.gz":
        write_files(root, {"cifar-10-binary.tar.gz": gzip_bytes(archive(files, FOLDER))})
    elif form == "tar":
        write_files(root, {"cifar-10-binary.tar": archive(files, FOLDER)})
    else:
        write_files(root / FOLDER if form == "folder" else root, files)
    manifest = preprocess(root, tmp_path / "out", rows_per_shard=16)
    assert manifest.source["layout"] == "cifar"
    assert manifest.classes == NAMES_10
    assert {split: info.class_counts for split, info in manifest.splits.items()} == {"train": [5] * 10, "val": [1] * 10}
    skipped = {reason: found["files"] for reason, found in manifest.source["skipped"].items()}
    assert skipped == {"read for labels or names": 1, "no image extension": 1}
    check_cifar10(tmp_path / "out")


def test_options_choose_images_of_cifar(tmp_path: Path) -> None:
    write_files(tmp_path / "raw", {"cifar-10-binary.tar.gz": gzip_bytes(archive(cifar10_files(), FOLDER))})
    options = {"classes": ("cat", "dog"), "images_per_class": 3, "holdout": 2}
    manifest = preprocess(tmp_path / "raw", tmp_path / "out", **options)
    counts = {split: info.class_counts for split, info in manifest.splits.items()}
    assert counts == {"train": [2, 2], "minival": [1, 1], "val": [1, 1]}
    assert manifest.source["skipped"]["not chosen"]["files"] == 60 - 8
    check_cifar10(tmp_path / "out")


@pytest.mark.parametrize(
    ("column", "kind", "size"), [(None, "fine", 1), ("fine_label", "fine", 1), ("coarse_label", "coarse", 5)]
)
def test_cifar_100_has_fine_and_coarse_labels(tmp_path: Path, column: str | None, kind: str, size: int) -> None:
    data = gzip_bytes(archive(cifar100_files(), "cifar-100-binary"))
    write_files(tmp_path / "raw", {"cifar-100-binary.tar.gz": data})
    options = SourceOptions(label_column=column)
    manifest = preprocess(tmp_path / "raw", tmp_path / "out", source_options=options)
    assert manifest.classes == [f"{kind} {number:02}" for number in range(100 // size)]
    assert manifest.splits["train"].class_counts == [size] * (100 // size)
    for name, (label, pixels) in rows(tmp_path / "out", "train").items():
        number = int(name.rsplit("-", 1)[1])
        assert label == f"{kind} {number // size:02}"
        assert np.array_equal(pixels, photo(32, 32, number))


@pytest.mark.parametrize("name", ["cifar-10-python.tar.gz", "cifar-100-python.tar.gz", "cifar-10-batches-py"])
def test_the_version_for_python_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir() if name.endswith("py") else (tmp_path / name).write_bytes(b"")
    version = name.split("-")[1]
    says = rf"{name} is a Python pickle, .*: download the binary version, cifar-{version}-binary\.tar\.gz, instead"
    with pytest.raises(InputError, match=says) as caught:
        open_source(open_store(tmp_path))
    assert "\n" not in str(caught.value)


def test_class_folders_beside_the_version_for_python(raw: Path, tmp_path: Path) -> None:
    shutil.copytree(raw, tmp_path / "raw")
    (tmp_path / "raw" / "cifar-10-python.tar.gz").write_bytes(b"")
    assert open_source(open_store(tmp_path / "raw")).layout == "folders"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda files: files.pop("data_batch_4.bin"), r"data_batch_4\.bin is missing: download the archive again"),
        (lambda files: files.pop("batches.meta.txt"), r"batches\.meta\.txt is missing"),
        (lambda files: files.update({"batches.meta.txt": b"a\nb\n"}), r"batches\.meta\.txt has 2 names, not 10"),
        (
            lambda files: files.update({"test_batch.bin": files["test_batch.bin"][:-1]}),
            "30,729 bytes, not a whole number",
        ),
        (lambda files: files.update({"test_batch.bin": b""}), "0 bytes, not a whole number of records"),
        (
            lambda files: files.update({"test_batch.bin": b"\x0a" + files["test_batch.bin"][1:]}),
            r"label 10, out of range \(0 to 9\)",
        ),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_batches(tmp_path: Path, change: Any, says: str, packed: bool) -> None:
    files = cifar10_files()
    change(files)
    if packed:
        files = {"cifar-10-binary.tar.gz": gzip_bytes(archive(files, FOLDER))}
    write_files(tmp_path / "raw", files)
    with pytest.raises(InputError, match=says) as caught:
        preprocess(tmp_path / "raw", tmp_path / "out", start=no_spark)
    assert type(caught.value) is InputError
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda data: data[:-30], r"cifar-10-binary\.tar\.gz is damaged"),
        (lambda data: data[: len(data) // 2], r"cifar-10-binary\.tar\.gz is damaged"),
        (lambda data: b"<html>login</html>", r"cifar-10-binary\.tar\.gz is damaged: it ends without the empty blocks"),
        (lambda data: gzip_bytes(archive(cifar10_files(), FOLDER)[:-9000]), "is cut short|it ends without the empty"),
        (lambda data: gzip_bytes(b""), "it ends without the empty blocks"),
    ],
)
def test_damaged_archives(tmp_path: Path, spoil: Any, says: str) -> None:
    data = gzip_bytes(archive(cifar10_files(), FOLDER))
    write_files(tmp_path / "raw", {"cifar-10-binary.tar.gz": spoil(data)})
    with pytest.raises(InputError, match=says) as caught:
        preprocess(tmp_path / "raw", tmp_path / "out", start=no_spark)
    assert "\n" not in str(caught.value)


def test_a_file_called_as_a_batch_is_not_cifar(tmp_path: Path) -> None:
    write_files(tmp_path, {"test.bin": b"", "data_batch_1.bin": b""})
    with pytest.raises(InputError, match="has no known layout"):
        open_source(open_store(tmp_path))


def test_two_versions_in_one_folder(tmp_path: Path) -> None:
    write_files(tmp_path, {"cifar-10-binary.tar.gz": b"", "cifar-100-binary.tar": b""})
    with pytest.raises(InputError, match=r"has both cifar-10-binary\.tar\.gz and cifar-100-binary\.tar"):
        open_source(open_store(tmp_path))


def test_a_column_that_cifar_does_not_have(tmp_path: Path) -> None:
    write_files(tmp_path, cifar10_files())
    with pytest.raises(InputError, match=r"--label-column fine_label: cifar-10 has label: give that"):
        open_source(open_store(tmp_path), options=SourceOptions(label_column="fine_label"))
