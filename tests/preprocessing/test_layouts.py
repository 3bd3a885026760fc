"""Every layout of the same images gives the same dataset; what is wrong with a layout is said in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from preprocessing.dataset.opening import Dataset
from preprocessing.job.spark_run import spark_mapper
from preprocessing.sources.devkit import read_devkit
from preprocessing.sources.layouts import open_source
from preprocessing.sources.official_tar import TarSource
from tests.preprocessing.archives import ILSVRC_IDS, NAMES, devkit, tar_bytes, val_images, write_kaggle, write_official
from tests.preprocessing.raw_images import CLASSES, SerialSpark, no_spark, preprocess


@pytest.fixture(scope="module")
def layouts(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("layouts")
    write_official(raw, root / "tar")
    write_kaggle(raw, root / "kaggle")
    return {"folders": raw, "tar": root / "tar", "kaggle": root / "kaggle"}


@pytest.mark.parametrize("layout", ["folders", "tar", "kaggle"])
def test_layouts_are_recognised(layouts: dict[str, Path], layout: str) -> None:
    assert open_source(open_store(layouts[layout])).layout == layout


@pytest.mark.parametrize("layout", ["tar", "kaggle"])
def test_all_layouts_give_the_same_files(layouts: dict[str, Path], made: Path, tmp_path: Path, layout: str) -> None:
    preprocess(layouts[layout], tmp_path / "out", rows_per_shard=20)
    ours, theirs = Dataset.open(str(tmp_path / "out")), Dataset.open(str(made))
    assert ours.content_hash == theirs.content_hash
    for name in ("train", "val"):
        for path in sorted((made / name).iterdir()):
            assert (tmp_path / "out" / name / path.name).read_bytes() == path.read_bytes(), path
    labels = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert labels == [{"label": label, "class": wnid, "name": NAMES[wnid]} for label, wnid in enumerate(CLASSES)]


def test_a_class_tar_is_never_unpacked(layouts: dict[str, Path], tmp_path: Path) -> None:
    before = sorted(path.name for path in layouts["tar"].iterdir())
    preprocess(layouts["tar"], tmp_path / "out")
    assert sorted(path.name for path in layouts["tar"].iterdir()) == before


def test_labels_of_val_go_through_the_ids_of_the_development_kit(raw: Path, tmp_path: Path) -> None:
    write_official(raw, tmp_path / "tar")
    images = val_images(raw)
    # Another numbering of the classes with the truth to match: the same labels.
    other = {"n01484850": 1, "n01440764": 2, "n01443537": 3}
    kit = devkit([other[wnid] for wnid, _ in images.values()], other)
    first = TarSource(open_store(tmp_path / "tar")).catalogue(CLASSES).splits["val"]
    (tmp_path / "tar" / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(kit)
    second = TarSource(open_store(tmp_path / "tar")).catalogue(CLASSES).splits["val"]
    expected = sorted((f"{wnid}/{name}", wnid) for name, (wnid, _) in images.items())
    for table in (first, second):
        assert list(zip(table["id"].to_pylist(), table["class"].to_pylist(), strict=True)) == expected
    # The same truth with another numbering: other labels, so that the numbering has a part in them.
    kit = devkit([ILSVRC_IDS[wnid] for wnid, _ in images.values()], other)
    (tmp_path / "tar" / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(kit)
    third = TarSource(open_store(tmp_path / "tar")).catalogue(CLASSES).splits["val"]
    assert third["id"].to_pylist() != second["id"].to_pylist()


def test_inner_nodes_of_wordnet_are_no_classes() -> None:
    kit = read_devkit(devkit([3, 1]), "devkit")
    assert kit.classes == ["n01440764", "n01443537"]
    assert kit.names == NAMES


@pytest.mark.parametrize("layout", ["folders", "tar", "kaggle"])
def test_a_subset_of_the_classes(layouts: dict[str, Path], tmp_path: Path, layout: str) -> None:
    chosen = (CLASSES[0], CLASSES[2])
    manifest = preprocess(layouts[layout], tmp_path / "out", classes=chosen)
    assert manifest.classes == list(chosen)
    assert {name: info.class_counts for name, info in manifest.splits.items()} == {"train": [14, 14], "val": [4, 4]}


def test_train_alone_needs_no_development_kit(layouts: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "tar").mkdir()
    shutil.copy(layouts["tar"] / "ILSVRC2012_img_train.tar", tmp_path / "tar")
    assert sorted(preprocess(tmp_path / "tar", tmp_path / "out").splits) == ["train"]


def test_a_named_layout_wins(layouts: dict[str, Path], tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(layouts["kaggle"], both)
    shutil.copytree(layouts["folders"] / "train", both / "train")
    assert open_source(open_store(both)).layout == "kaggle"
    assert open_source(open_store(both), "folders").layout == "folders"
    with pytest.raises(InputError, match=r"ILSVRC2012_img_train\.tar is missing"):
        open_source(open_store(both), "tar")


def _cut(path: Path, keep: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def _damage_inner(path: Path) -> None:
    data = bytearray(path.read_bytes())
    place = data.index(b"n01484850_3.JPEG")
    data[place] ^= 1
    path.write_bytes(data)


TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: _cut(root / TRAIN, 0.5), r"img_train\.tar is damaged: it ends at byte .*; download it again"),
        (lambda root: _cut(root / TRAIN, 0), r"img_train\.tar is damaged: it ends without the empty blocks"),
        (lambda root: (root / TRAIN).write_bytes(tar_bytes({"a.txt": b""})), "holds no class tars"),
        (lambda root: _damage_inner(root / TRAIN), r"n01484850\.tar in it is damaged: a damaged header at byte"),
        (lambda root: _cut(root / VAL, 0.5), r"img_val\.tar is damaged: it ends"),
        (lambda root: (root / DEVKIT).unlink(), r"devkit_t12\.tar\.gz is missing, and .*val\.tar has no labels"),
        (lambda root: _cut(root / DEVKIT, 0.5), r"devkit_t12\.tar\.gz is (cut short|not a valid gzip)"),
        (lambda root: (root / DEVKIT).write_bytes(b"<html>login</html>"), r"is not a valid gzip file"),
        (lambda root: (root / DEVKIT).write_bytes(devkit([1] * 11)), r"12 images and .* 11 labels"),
        (lambda root: (root / DEVKIT).write_bytes(devkit([9] * 12)), r"ground_truth\.txt names class 9"),
        (
            lambda root: (root / VAL).write_bytes(tar_bytes({f"{n}.JPEG": b"" for n in range(12)})),
            "is not one of ILSVRC2012",
        ),
    ],
)
def test_damaged_archives(layouts: dict[str, Path], tmp_path: Path, spoil: Any, says: str) -> None:
    root = tmp_path / "tar"
    shutil.copytree(layouts["tar"], root)
    spoil(root)
    with pytest.raises(InputError, match=says) as caught:
        preprocess(root, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda root: (root / "LOC_val_solution.csv").unlink(),
            r"LOC_val_solution\.csv is missing, and val has no labels",
        ),
        (lambda root: (root / "LOC_val_solution.csv").write_text("<html>"), "does not begin with ImageId"),
        (lambda root: _cut(root / "LOC_val_solution.csv", 0.6), "does not name it|line 9 names no class"),
        (
            lambda root: _append(root, '\n"' + "x" * 200_000),
            r"solution\.csv is damaged \(field larger than .*\): download",
        ),
        (
            lambda root: _append(root, f"\nILSVRC2012_val_00000001,{CLASSES[2]} 1 2 3 4"),
            r"solution\.csv: line \d+ names no class, or an image again: download it again",
        ),
        (
            lambda root: _append(root, "\na\x1bb,n01440764"),
            r"val/a\\x1bb\.JPEG named by LOC_val_solution\.csv is missing",
        ),
        (
            lambda root: (root / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000005.JPEG").unlink(),
            r"val_00000005\.JPEG named by LOC_val_solution\.csv is missing: unpack",
        ),
        (lambda root: shutil.rmtree(root / "ILSVRC/Data/CLS-LOC/train/n01440764"), "which is not a class of train"),
        (lambda root: shutil.rmtree(root / "ILSVRC/Data/CLS-LOC/train"), "has no class folders"),
    ],
)
def test_damaged_kaggle_trees(layouts: dict[str, Path], tmp_path: Path, spoil: Any, says: str) -> None:
    root = tmp_path / "kaggle"
    shutil.copytree(layouts["kaggle"], root)
    spoil(root)
    with pytest.raises(InputError, match=says) as caught:
        preprocess(root, tmp_path / "out", start=no_spark)
    assert type(caught.value) is InputError


def _append(root: Path, text: str) -> None:
    with (root / "LOC_val_solution.csv").open("a") as file:
        file.write(text)


def test_an_image_that_is_there_twice(raw: Path, tmp_path: Path) -> None:
    write_official(raw, tmp_path / "tar")
    twice = tar_bytes({"a.JPEG": b"1", "./a.JPEG": b"2"})
    (tmp_path / "tar" / TRAIN).write_bytes(tar_bytes({f"{name}.tar": twice for name in CLASSES}))
    with pytest.raises(InputError, match=r"n01440764/a\.JPEG is in the source twice"):
        preprocess(tmp_path / "tar", tmp_path / "out")


def test_tasks_index_tars_as_this_process_does(layouts: dict[str, Path]) -> None:
    source = TarSource(open_store(layouts["tar"]))
    here, there = source.catalogue(CLASSES), source.catalogue(CLASSES, spark_mapper(SerialSpark()))
    assert all(here.splits[name].equals(there.splits[name]) for name in ("train", "val"))
