"""Tiny ImageNet gives the dataset that class folders of the same images give."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from preprocessing.dataset.opening import Dataset
from preprocessing.sources.layouts import open_source
from tests.preprocessing.raw_images import CLASSES, no_spark, preprocess
from tests.preprocessing.shard_files import write_tiny


@pytest.fixture(scope="module")
def tiny(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiny") / "tiny-imagenet-200"
    write_tiny(raw, root)
    return root


def test_it_gives_the_dataset_of_class_folders(tiny: Path, made: Path, tmp_path: Path) -> None:
    manifest = preprocess(tiny, tmp_path / "out", rows_per_shard=20)
    assert manifest.source["layout"] == "tiny-imagenet"
    assert Dataset.open(str(tmp_path / "out")).content_hash == Dataset.open(str(made)).content_hash
    names = [row["name"] for row in json.loads((tmp_path / "out/labels.json").read_text())]
    assert names == ["tench, Tinca tinca", None, None]
    assert {reason: found["files"] for reason, found in manifest.source["skipped"].items()} == {
        "read for labels or names": 3,
        "no image extension": 3,
        "test image without a label": 1,
    }


def test_options_choose_the_same_images(raw: Path, tiny: Path, tmp_path: Path) -> None:
    options = {"classes": (CLASSES[0], CLASSES[2]), "images_per_class": 3, "holdout": 2}
    ours = preprocess(tiny, tmp_path / "ours", **options)
    assert ours.hash == preprocess(raw, tmp_path / "theirs", **options).hash
    assert ours.source["skipped"]["not chosen"]["files"] == 54 - 12


def test_as_class_folders_it_is_refused(tiny: Path) -> None:
    with pytest.raises(InputError, match="is in Tiny ImageNet's layout: leave out --layout folders"):
        open_source(open_store(tiny), "folders").classes()


def test_the_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"tiny-imagenet-200\.zip has to be unpacked first: unzip tiny-imagenet-200\.zip"
    ):
        open_source(open_store(tmp_path))


LABELS = "val/val_annotations.txt"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda root: cut(root / LABELS),
            r"ILSVRC2012_val_0+\d+\.JPEG has no label: .*val_annotations\.txt does not name",
        ),
        (lambda root: (root / LABELS).write_text("<html>login"), "line 1 does not name an image and its class"),
        (lambda root: repeat(root / LABELS), "line 13 does not name an image and its class"),
        (lambda root: first_image(root).unlink(), r"\.JPEG named by .*val_annotations\.txt is missing: unpack"),
        (lambda root: shutil.rmtree(root / "val/images"), "val/images is missing"),
        (
            lambda root: shutil.rmtree(root / "train" / CLASSES[0]),
            f"gives it {CLASSES[0]}, which is not a class of train",
        ),
        (lambda root: shutil.rmtree(root / "train" / CLASSES[0] / "images"), f"class {CLASSES[0]} holds no images"),
        (lambda root: shutil.rmtree(root / "train"), "has no class folders"),
    ],
)
def test_damaged_trees(tiny: Path, tmp_path: Path, spoil: Any, says: str) -> None:
    shutil.copytree(tiny, tmp_path / "raw")
    spoil(tmp_path / "raw")
    with pytest.raises(InputError, match=says) as caught:
        preprocess(tmp_path / "raw", tmp_path / "out", start=no_spark)
    assert type(caught.value) is InputError
    assert "\n" not in str(caught.value)


def cut(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))


def repeat(path: Path) -> None:
    path.write_text(path.read_text() + path.read_text().splitlines()[0])


def first_image(root: Path) -> Path:
    return sorted((root / "val/images").iterdir())[0]
