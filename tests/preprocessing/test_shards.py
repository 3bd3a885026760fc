"""WebDataset and TFRecord give the datasets that class folders of the same images give; damage is named in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.storage import open_store
from preprocessing.dataset.opening import Dataset
from preprocessing.job.spark_run import spark_mapper
from preprocessing.sources.base import SourceOptions
from preprocessing.sources.layouts import locate_source, open_source
from tests.preprocessing.archives import gzip_bytes, tar_bytes
from tests.preprocessing.raw_images import CLASSES, SerialSpark, jpeg, preprocess
from tests.preprocessing.shard_files import (
    cls_tar,
    json_tar,
    rename_classes,
    slim_records,
    tfds_records,
    write_shards,
)

IMAGE = jpeg(40, 40)


def number(wnid: str) -> int:
    return CLASSES.index(wnid)


WRITERS: dict[str, tuple[str, str, Callable[[Any], bytes]]] = {
    "cls": ("webdataset", "imagenet-{split}-{number:06}.tar", cls_tar),
    "json": ("webdataset", "{split}/{number}.tar", json_tar),
    "slim": ("tfrecord", "{split}-{number:05}-of-00002", slim_records),
}


def put(root: Path, **files: bytes) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (root / name.replace("__", ".")).write_bytes(data)
    return root


def assert_same(ours: Path, theirs: Path) -> None:
    assert Dataset.open(str(ours)).content_hash == Dataset.open(str(theirs)).content_hash
    for split in ("train", "val"):
        for path in sorted((theirs / split).iterdir()):
            assert (ours / split / path.name).read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize("kind", WRITERS)
def test_shards_give_the_files_that_class_folders_give(raw: Path, made: Path, tmp_path: Path, kind: str) -> None:
    layout, name, write = WRITERS[kind]
    write_shards(raw, tmp_path / "raw", write, name)
    assert open_source(open_store(tmp_path / "raw")).layout == layout
    manifest = preprocess(tmp_path / "raw", tmp_path / "out", rows_per_shard=20)
    assert_same(tmp_path / "out", made)
    labels = 0 if kind == "slim" else 54
    assert sum(found["files"] for found in manifest.source["skipped"].values()) == labels
    names = [row["name"] for row in json.loads((tmp_path / "out" / "labels.json").read_text())]
    assert names == ([f"words of {wnid}" for wnid in CLASSES] if kind == "slim" else [None] * 3)


@pytest.fixture(scope="module")
def numbered(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of class folders named 0, 1 and 2."""
    root = tmp_path_factory.mktemp("numbered")
    rename_classes(raw, root / "raw", lambda wnid: str(number(wnid)))
    preprocess(root / "raw", root / "out", rows_per_shard=20)
    return root / "out"


NUMBERED: dict[str, tuple[str, Callable[[int], Callable[[Any], bytes]]]] = {
    "cls": (
        "{split}-{number}.tar",
        lambda first: lambda part: cls_tar(part, label=lambda wnid: f"{number(wnid) + first}\n"),
    ),
    "slim": (
        "{split}-{number:05}-of-00002",
        lambda first: lambda part: slim_records(part, synset=False, label=lambda wnid: number(wnid) + first),
    ),
    "tfds": (
        "imagenet2012-{split}.tfrecord-{number:05}-of-00002",
        lambda first: lambda part: tfds_records(part, lambda wnid: number(wnid) + first),
    ),
}


@pytest.mark.parametrize("kind", NUMBERED)
@pytest.mark.parametrize("first", [0, 1])
def test_label_numbers_are_classes_counted_from_0(
    raw: Path, numbered: Path, tmp_path: Path, kind: str, first: int
) -> None:
    name, write = NUMBERED[kind]
    write_shards(raw, tmp_path / "raw", write(first), name)
    if first:
        with pytest.raises(
            InputError, match="labels from 1 to 3, and nothing says whether .*--first-label 0 or"
        ) as caught:
            preprocess(tmp_path / "raw", tmp_path / "out")
        assert "\n" not in str(caught.value)
    options = SourceOptions(first_label=first or None)
    preprocess(tmp_path / "raw", tmp_path / "out", rows_per_shard=20, source_options=options)
    assert_same(tmp_path / "out", numbered)


def test_numbers_have_as_many_digits_as_sort_them(tmp_path: Path) -> None:
    files = {
        f"{label}.{kind}": IMAGE if kind == "jpg" else str(label).encode()
        for label in range(11)
        for kind in ("jpg", "cls")
    }
    put(tmp_path, a__tar=tar_bytes(files))
    assert open_source(open_store(tmp_path)).classes() == [f"{label:02}" for label in range(11)]


def test_a_first_label_that_contradicts_the_labels(raw: Path, tmp_path: Path) -> None:
    name, write = NUMBERED["tfds"]
    write_shards(raw, tmp_path / "raw", write(0), name)
    with pytest.raises(InputError, match=r"label 0, out of range \(1 and up\): check --first-label"):
        preprocess(tmp_path / "raw", tmp_path / "out", source_options=SourceOptions(first_label=1))


def test_tfds_names_its_classes_in_a_file(raw: Path, made: Path, tmp_path: Path) -> None:
    name, write = NUMBERED["tfds"]
    write_shards(raw, tmp_path / "raw", write(0), name)
    names = "\n".join(CLASSES).encode()
    put(tmp_path / "raw", **{"label__labels__txt": names, "features__json": b"{}"})
    manifest = preprocess(tmp_path / "raw", tmp_path / "out", rows_per_shard=20)
    assert_same(tmp_path / "out", made)
    skipped = {reason: found["files"] for reason, found in manifest.source["skipped"].items()}
    assert skipped == {"read for labels or names": 1, "no image extension": 1}
    put(tmp_path / "raw", **{"label__labels__txt": names.rsplit(b"\n", 1)[0]})
    with pytest.raises(InputError, match=r"label 2, out of range \(0 to 1\)"):
        preprocess(tmp_path / "raw", tmp_path / "two")


@pytest.mark.parametrize("kind", WRITERS)
def test_the_options_that_choose_images(raw: Path, tmp_path: Path, kind: str) -> None:
    write_shards(raw, tmp_path / "raw", WRITERS[kind][2], WRITERS[kind][1])
    chosen = (CLASSES[0], CLASSES[2])
    options = {"classes": chosen, "images_per_class": 3, "holdout": 2}
    ours = preprocess(tmp_path / "raw", tmp_path / "ours", **options)
    theirs = preprocess(raw, tmp_path / "theirs", **options)
    assert ours.hash == theirs.hash
    assert {name: info.class_counts for name, info in ours.splits.items()} == {
        "train": [2, 2],
        "val": [3, 3],
        "minival": [1, 1],
    }
    assert ours.source["skipped"]["not chosen"]["files"] == 54 - 12
    with pytest.raises(InputError, match="--classes: the source has no class 'n9'; it has n01440764"):
        preprocess(tmp_path / "raw", tmp_path / "none", classes=("n9",))


@pytest.mark.parametrize("kind", WRITERS)
def test_a_finished_shard_is_not_made_again(raw: Path, tmp_path: Path, kind: str, monkeypatch: Any) -> None:
    from preprocessing.images import decode

    write_shards(raw, tmp_path / "raw", WRITERS[kind][2], WRITERS[kind][1])
    calls: list[int] = []
    real = decode.fit

    def fit(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(decode, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        preprocess(tmp_path / "raw", tmp_path / "out", rows_per_shard=8)
    calls[:] = [1] * 30
    manifest = preprocess(tmp_path / "raw", tmp_path / "out", rows_per_shard=8)
    assert len(calls) - 30 < 54
    assert manifest.hash == preprocess(raw, tmp_path / "whole", rows_per_shard=8).hash


def test_tasks_index_shards_as_this_process_does(raw: Path, tmp_path: Path) -> None:
    write_shards(raw, tmp_path, cls_tar, "{split}-{number}.tar")
    here, there = open_source(open_store(tmp_path)), open_source(open_store(tmp_path))
    there.read(spark_mapper(SerialSpark()))
    assert here.catalogue(CLASSES).splits == there.catalogue(CLASSES).splits


def test_braces_name_files(raw: Path, made: Path, tmp_path: Path) -> None:
    write_shards(raw, tmp_path / "raw", cls_tar, "{split}-{number:03}.tar")
    put(tmp_path / "raw", broken__tar=b"x" * 2000)  # not named, so not read
    preprocess(f"{tmp_path}/raw/{{train,val}}-{{000..001}}.tar", tmp_path / "out", rows_per_shard=20)  # type: ignore[arg-type]
    assert_same(tmp_path / "out", made)
    with pytest.raises(InputError, match=r"train-002\.tar does not exist, and 1 more that --source names"):
        locate_source(f"{tmp_path}/raw/train-{{000..003}}.tar")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{root}/train-{5..3}.tar", r"\{5\.\.3\} is not a range such as"),
        ("{root}/train-{a..c}.tar", r"\{a\.\.c\} is not a range such as"),
        ("{root}/train-{0..9999999}.tar", "names 10,000,000 files"),
        ("{root}/train-{0..9999}{0..9999}.tar", "names 100,000,000 files"),
        ("{root}/train-{1,1}.tar", "names a file twice"),
        ("{root}/{a,b}.zip", "braces can only name TFRecord files .* or WebDataset's"),
    ],
)
def test_braces_that_name_no_files(tmp_path: Path, source: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        locate_source(source.replace("{root}", str(tmp_path)))
    assert type(caught.value) is InputError
    assert "\n" not in str(caught.value)


def test_test_is_val_where_there_is_no_val(raw: Path, tmp_path: Path, caplog: Any) -> None:
    caplog.set_level("INFO", "preprocessing")
    write_shards(raw, tmp_path / "raw", cls_tar, "{split}-{number}.tar")
    for path in (tmp_path / "raw").glob("val-*"):
        shutil.copy(path, path.with_name(path.name.replace("val", "test")))
    both = preprocess(tmp_path / "raw", tmp_path / "both")
    assert both.source["skipped"]["file of a split that is not read"] == {"files": 2, "first": "test-0.tar"}
    for path in (tmp_path / "raw").glob("val-*"):
        path.unlink()
    assert preprocess(tmp_path / "raw", tmp_path / "test").hash == both.hash
    assert "has no val: its test split, such as test-0.tar, becomes val" in caplog.text


def test_shards_without_a_split_in_their_names_are_train(raw: Path, tmp_path: Path) -> None:
    write_shards(raw, tmp_path / "raw", cls_tar, "shard-{number}.tar", splits=("train",))
    assert sorted(preprocess(tmp_path / "raw", tmp_path / "out", holdout=0.2).splits) == ["minival", "train"]
    write_shards(raw, tmp_path / "val", cls_tar, "val-{number}.tar", splits=("val",))
    with pytest.raises(InputError, match=r"has no files of train \(only such as val-0\.tar\)"):
        open_source(open_store(tmp_path / "val"))


def test_a_file_of_a_numbered_set_that_is_missing(raw: Path, tmp_path: Path) -> None:
    write_shards(raw, tmp_path, slim_records, "{split}-{number:05}-of-00002")
    (tmp_path / "train-00001-of-00002").rename(tmp_path / "train-00001-of-00003")
    with pytest.raises(InputError, match=r"train-\* are of two versions, -of-00002 and -of-00003: remove one"):
        open_source(open_store(tmp_path))
    (tmp_path / "train-00001-of-00003").unlink()
    with pytest.raises(InputError, match=r"train-00001-of-00002 is missing: download it as well"):
        open_source(open_store(tmp_path))
    braces = f"{tmp_path}/train-{{00000..00000}}-of-00002"
    assert locate_source(braces).classes() == list(CLASSES)  # what is named on purpose need not be all


def test_a_shard_whose_name_alone_tells_no_split(raw: Path, tmp_path: Path) -> None:
    write_shards(raw, tmp_path, cls_tar, "{split}-{number}.tar")
    (tmp_path / "val-1.tar").rename(tmp_path / "other.tar")
    with pytest.raises(InputError, match=r"the name of other\.tar tells no split .*, and names of other files do"):
        open_source(open_store(tmp_path))


def test_every_member_of_a_shard_is_accounted_for(tmp_path: Path) -> None:
    files = {
        "a.jpg": IMAGE,
        "a.cls": b"0",
        "a.json": b'{"label": 1}',
        "a.seg.png": IMAGE,
        "._a.jpg": b"",
        "b.tif": IMAGE,
        "b.cls": b"1",
        "b.txt": b"",
        "c.JPG": b"<html>",
        "c.CLS": b"1",
        "d/d.png": IMAGE,
        "d/d.cls": b"1",
    }
    put(tmp_path / "raw", x__tar=tar_bytes(files), notes__txt=b"")
    manifest = preprocess(tmp_path / "raw", tmp_path / "out", max_rejected=1.0)
    assert manifest.splits["train"].class_counts == [1, 1]
    assert manifest.rejected == 1
    assert {reason: found["files"] for reason, found in manifest.source["skipped"].items()} == {
        "read for labels or names": 5,
        "hidden or a tool's": 1,
        "no image extension": 2,
        "image of a format that is not read": 1,
        "image outside the layout": 1,
    }
    assert len(files) + 1 == 3 + 10


GOOD = {"a.jpg": IMAGE, "a.cls": b"0"}


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"b.jpg": IMAGE}, r"b\.jpg has no label beside it"),
        ({"b.jpg": IMAGE, "b.png": IMAGE, "b.cls": b"0"}, r"b\.jpg and b\.png are images of one key"),
        ({"b.jpg": IMAGE, "b.cls": b"0", "b.CLS": b"1"}, r"b\.CLS is there twice"),
        ({"b.jpg": IMAGE, "b.cls": b""}, r"the \.cls of b\.jpg: the label '' is not a number"),
        ({"b.jpg": IMAGE, "b.cls": b"../x"}, r"the \.cls of b\.jpg: the label '\.\./x' is not a number"),
        ({"b\nb.jpg": IMAGE}, r"b\\nb\.jpg has no label beside it"),
        ({"b.jpg": IMAGE, "b.cls": b"\xff"}, r"the \.cls of b\.jpg: it is not UTF-8"),
        ({"b.jpg": IMAGE, "b.cls": b"-1"}, "label -1, out of range"),
        ({"b.jpg": IMAGE, "b.cls": b"123456789"}, r"label 123,456,789, out of range \(0 to 999,999\)"),
        ({"b.jpg": IMAGE, "b.cls": b"dog"}, r"numbers and text as labels \(0 and dog\)"),
        ({"b.jpg": IMAGE, "b.json": b"{"}, r"the \.json of b\.jpg: it is not JSON"),
        (
            {"b.jpg": IMAGE, "b.json": b'{"x": 1}'},
            r"it has no label or cls or class but x; name the key",
        ),
        ({"b.jpg": IMAGE, "b.json": b'{"label": [1]}'}, "label is neither a number nor text"),
        ({"b.jpg": IMAGE, "b.json": b"x" * (2 << 20)}, r"b\.json has 2,097,152 bytes, too many for a label"),
    ],
)
def test_samples_that_cannot_be_used(tmp_path: Path, files: dict[str, bytes], says: str) -> None:
    put(tmp_path / "raw", x__tar=tar_bytes({**GOOD, **files}))
    with pytest.raises(InputError, match=says) as caught:
        preprocess(tmp_path / "raw", tmp_path / "out")
    assert type(caught.value) is InputError
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_key_of_the_json_by_name(tmp_path: Path) -> None:
    put(tmp_path / "raw", x__tar=tar_bytes({"a.jpg": IMAGE, "a.json": b'{"label": 7, "wnid": "n1"}'}))
    options = SourceOptions(label_column="wnid")
    assert preprocess(tmp_path / "raw", tmp_path / "out", source_options=options).classes == ["n1"]


def test_a_class_of_val_that_train_does_not_have(tmp_path: Path) -> None:
    val = tar_bytes({"b.jpg": IMAGE, "b.cls": b"1"})
    put(tmp_path / "raw", **{"train-0__tar": tar_bytes(GOOD), "val-0__tar": val})
    with pytest.raises(
        InputError, match=r"val \(such as val-0\.tar\) has images of class 1, which train does not have"
    ):
        preprocess(tmp_path / "raw", tmp_path / "out")


def test_tars_that_are_no_shards_are_not_taken_for_shards(raw: Path, tmp_path: Path) -> None:
    put(tmp_path / "val", ILSVRC2012_img_val__tar=tar_bytes({"a.JPEG": IMAGE}))
    with pytest.raises(InputError, match="has no known layout"):
        open_source(open_store(tmp_path / "val"))
    shutil.copytree(raw, tmp_path / "folders")
    put(tmp_path / "folders", backup__tar=tar_bytes(GOOD), old__tfrecord=b"")
    assert open_source(open_store(tmp_path / "folders")).layout == "folders"


def test_a_compressed_shard_is_named(tmp_path: Path) -> None:
    put(tmp_path, a__tar__gz=b"")
    with pytest.raises(InputError, match=r"a\.tar\.gz is compressed: gunzip it if it is a WebDataset shard"):
        open_source(open_store(tmp_path))
    (tmp_path / "a.tar.gz").rename(tmp_path / "a.tar")
    (tmp_path / "a.tar").write_bytes(gzip_bytes(tar_bytes(GOOD)))
    with pytest.raises(InputError, match=r"a\.tar is compressed with gzip, and has to be unpacked first: mv a\.tar"):
        open_source(open_store(tmp_path)).classes()


@pytest.mark.parametrize("kind", WRITERS)
def test_storage_that_fails_is_not_called_damage(raw: Path, tmp_path: Path, kind: str, monkeypatch: Any) -> None:
    write_shards(raw, tmp_path, WRITERS[kind][2], WRITERS[kind][1])
    source = open_source(open_store(tmp_path))

    def open_input(self: Any, path: str) -> Any:
        raise StorageError(f"cannot read {path}: the disk is on fire")

    monkeypatch.setattr(type(source.store), "open_input", open_input)
    with pytest.raises(StorageError, match="the disk is on fire") as caught:
        source.read()
    assert type(caught.value) is StorageError
