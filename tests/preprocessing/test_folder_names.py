"""Class folders under the names that people have for them: `validation`, `valid`, `test`, or no `train` at all."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

import preprocessing.sources.listed_source as listed_source
from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from preprocessing.dataset.opening import Dataset
from preprocessing.sources.layouts import open_source
from tests.preprocessing.raw_images import CLASSES, jpeg, preprocess

IMAGE = jpeg(40, 40)


def put(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(IMAGE)


@pytest.fixture
def copy(raw: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(raw, tmp_path / "raw"))


@pytest.mark.parametrize("name", ["validation", "valid", "validate", "test", "Val", "Validation"])
def test_val_by_another_name(
    copy: Path, made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.INFO, "preprocessing")
    (copy / "val").rename(copy / name)
    manifest = preprocess(copy, tmp_path / "out", rows_per_shard=20)
    assert manifest.hash == Dataset.open(str(made)).content_hash
    assert manifest.source["skipped"] == {}
    assert caplog.messages.count(f"{copy} has no folder val: val is {name}") == 1


@pytest.mark.parametrize(("val", "other"), [("val", "test"), ("validation", "test"), ("val", "validation")])
def test_test_is_left_out_beside_val(copy: Path, made: Path, tmp_path: Path, val: str, other: str) -> None:
    (copy / "val").rename(copy / val)
    put(copy, f"{other}/{CLASSES[0]}/x.JPEG", f"{other}/{CLASSES[0]}/y.JPEG")
    manifest = preprocess(copy, tmp_path / "out", rows_per_shard=20)
    assert manifest.hash == Dataset.open(str(made)).content_hash
    first = f"{other}/{CLASSES[0]}/x.JPEG"
    assert manifest.source["skipped"] == {"image outside the layout": {"files": 2, "first": first}}


def test_test_images_without_labels_are_not_val(copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(copy / "val")
    put(copy, "test/x.JPEG", "test/images/y.JPEG")
    manifest = preprocess(copy, tmp_path / "out")
    assert list(manifest.splits) == ["train"]
    assert manifest.source["skipped"]["image outside the layout"]["files"] == 2


def test_class_folders_alone_are_train(raw: Path, tmp_path: Path) -> None:
    shutil.copytree(raw / "train", tmp_path / "raw" / "train")
    expected = preprocess(tmp_path / "raw", tmp_path / "expected", holdout=0.2)
    put(tmp_path / "raw" / "train", ".cache/x.JPEG")
    (tmp_path / "raw" / "train" / "README.md").write_text("about")
    put(tmp_path / "raw" / "train", "beside.JPEG")
    manifest = preprocess(tmp_path / "raw" / "train", tmp_path / "out", holdout=0.2)
    assert manifest.hash == expected.hash
    assert sorted(manifest.splits) == ["minival", "train"]
    assert {reason: found["files"] for reason, found in manifest.source["skipped"].items()} == {
        "hidden or a tool's": 1,
        "no image extension": 1,
        "image outside the class folders": 1,
    }
    assert preprocess(tmp_path / "raw" / "train", tmp_path / "two", classes=CLASSES[:2]).classes == list(CLASSES[:2])


@pytest.mark.parametrize(
    "paths",
    [
        ("imagenet/train/a/0.JPEG", "imagenet/val/a/0.JPEG", "other/b/0.JPEG"),  # the folder above sources
        ("Train/a/0.JPEG", "Train/b/0.JPEG", "x/0.JPEG"),
        ("val/a/0.JPEG", "a/0.JPEG"),
        ("images/0.JPEG", "images/1.JPEG"),  # a single folder
        ("0.JPEG", "1.JPEG"),
    ],
)
def test_other_folders_are_not_taken_for_classes(tmp_path: Path, paths: tuple[str, ...]) -> None:
    put(tmp_path, *paths)
    with pytest.raises(InputError, match="has no known layout"):
        open_source(open_store(tmp_path))


def test_a_source_among_class_folders_is_not_a_class(tmp_path: Path) -> None:
    put(tmp_path / "raw", "a/0.JPEG", "b/0.JPEG", "c/0.JPEG", "zoo/train/cat/0.JPEG")
    with pytest.raises(
        InputError, match="zoo/train/cat holds images, and zoo would be their class: give the"
    ) as caught:
        preprocess(tmp_path / "raw", tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_signature_is_that_of_all_names_at_once(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_source(open_store(raw)).signature(CLASSES)
    monkeypatch.setattr(listed_source, "_BLOCK", 5)
    assert open_source(open_store(raw)).signature(CLASSES) == before


def test_ids_are_in_order_where_those_of_the_listing_are_not(tmp_path: Path) -> None:
    put(tmp_path, *(f"train/{name}/{number}.JPEG" for name in ("a", "a b", "a-b", "ä") for number in range(3)))
    ids = open_source(open_store(tmp_path)).catalogue(("a", "a b", "a-b", "ä")).splits["train"]["id"].to_pylist()
    assert ids == sorted(ids)
    assert len(ids) == 12
    assert ids.index("a b/0.JPEG") < ids.index("a/0.JPEG")
