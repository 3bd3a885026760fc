"""What is written is what is read, by us and by petastorm; what is damaged is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from preprocessing.common.errors import InputError
from preprocessing.dataset.opening import Dataset, Reading
from preprocessing.images.decode import decode
from tests.preprocessing.raw_images import CLASSES, DAMAGES, do_damage, preprocess


def expected_rows(raw: Path, split: str, size: int) -> dict[str, tuple[np.ndarray, int]]:
    found = {}
    for path in sorted((raw / split).rglob("*.JPEG")):
        name = path.parent.name
        found[f"{name}/{path.name}"] = decode(path.read_bytes(), size), CLASSES.index(name)
    return found


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_row_is_its_image(raw: Path, made: Path, split: str) -> None:
    dataset = Dataset.open(str(made))
    part = dataset.split(split)
    images, labels = part.gather(np.arange(part.count))
    ids = [name for file in dataset.splits[split].files for name in _ids(made / file.name)]
    expected = expected_rows(raw, split, 32)
    assert sorted(ids) == sorted(expected)
    for image, label, name in zip(images, labels, ids, strict=True):
        assert np.array_equal(image, expected[name][0])
        assert label == expected[name][1]


def test_attributes(made: Path) -> None:
    dataset = Dataset.open(str(made))
    assert dataset.class_names == list(CLASSES)
    assert (dataset.size, dataset.codec, sorted(dataset.splits)) == (32, "tensor", ["train", "val"])
    assert dataset.splits["train"].class_counts == [14, 14, 14]
    images, _ = dataset.split("train").gather(np.arange(42))
    assert np.allclose(dataset.mean, images.mean(axis=(0, 1, 2)), atol=1e-9)
    assert np.allclose(dataset.std, images.reshape(-1, 3).std(axis=0), atol=1e-9)


def test_gather_takes_any_order_and_never_reuses_memory(made: Path) -> None:
    part = Dataset.open(str(made)).split("train")
    everything, labels = part.gather(np.arange(part.count))
    indices = np.array([41, 0, 7, 8, 20, 19, 0, 40], np.int64)
    first, first_labels = part.gather(indices)
    second, _ = part.gather(indices[::-1])
    assert np.array_equal(first, everything[indices])
    assert np.array_equal(second, everything[indices[::-1]])
    assert np.array_equal(first_labels, labels[indices])
    assert first.flags.writeable
    assert not np.shares_memory(first, second)
    nothing, no_labels = part.gather(np.zeros(0, np.int64))
    assert nothing.shape == (0, 32, 32, 3)
    assert no_labels.shape == (0,)
    for outside in (-1, part.count):
        with pytest.raises(IndexError, match=r"rows of train are 0\.\.41"):
            part.gather(np.array([outside]))


def test_row_groups_read_without_mapping_are_the_same(made: Path) -> None:
    dataset = Dataset.open(str(made))
    everything = np.arange(42)
    mapped, labels = dataset.split("train").gather(everything)
    read, same_labels = dataset.split("train", Reading(mapped=False)).gather(everything)
    assert np.array_equal(mapped, read)
    assert np.array_equal(labels, same_labels)


def test_the_jpeg_codec(raw: Path, made: Path, tmp_path: Path) -> None:
    preprocess(raw, tmp_path / "out", codec="jpeg", rows_per_shard=20)
    dataset, tensors = Dataset.open(str(tmp_path / "out")), Dataset.open(str(made))
    images, labels = dataset.split("train").gather(np.array([30, 2, 41]))
    same, same_labels = tensors.split("train").gather(np.array([30, 2, 41]))
    assert np.array_equal(labels, same_labels)
    assert np.abs(images.astype(int) - same).mean() < 8
    assert (dataset.mean, dataset.std) == (tensors.mean, tensors.std)
    assert dataset.content_hash != tensors.content_hash


@pytest.mark.petastorm
@pytest.mark.parametrize("codec", ["tensor", "jpeg"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_petastorm_reads_every_row(raw: Path, tmp_path: Path, codec: str, split: str) -> None:
    from petastorm import make_reader

    preprocess(raw, tmp_path / "out", codec=codec, rows_per_shard=20)
    part = Dataset.open(str(tmp_path / "out")).split(split)
    images, labels = part.gather(np.arange(part.count))
    url = (tmp_path / "out" / split).as_uri()
    with make_reader(url, reader_pool_type="dummy", shuffle_row_groups=False, num_epochs=1) as reader:
        rows = list(reader)
    assert len(rows) == part.count
    for row, image, label in zip(rows, images, labels, strict=True):
        assert row.image.dtype == np.uint8
        assert np.abs(row.image.astype(int) - image).max() <= (0 if codec == "tensor" else 3)
        assert row.label == label
        assert row.id.startswith(CLASSES[label])


def test_no_dataset_there(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{tmp_path}/absent is not a dataset: it does not exist; make one with"):
        Dataset.open(str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"has no manifest\.json"):
        Dataset.open(str(tmp_path))
    with pytest.raises(InputError, match="no split 'test'; it has train, val"):
        Dataset.open(str(made)).split("test")


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copied"))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("version", 2, "cannot be read"),
        ("format", "other", "cannot be read"),
        ("size", "large", "cannot be read"),
        ("size", 64, "its hash does not match"),
        ("images_in", 99, "99 images in, but 54 rows and 0 rejected"),
        ("classes", ["b", "a", "c"], "not sorted"),
        ("surprise", 1, "cannot be read"),
    ],
)
def test_a_manifest_that_is_not_right(copied: Path, field: str, value: object, says: str) -> None:
    manifest = json.loads((copied / "manifest.json").read_bytes())
    manifest[field] = value
    (copied / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=says):
        Dataset.open(str(copied))


def test_a_manifest_that_is_not_utf8(copied: Path) -> None:
    data = (copied / "manifest.json").read_bytes()
    (copied / "manifest.json").write_bytes(data.replace(b'"folders"', b'"\xff"'))
    with pytest.raises(InputError, match=r"manifest\.json cannot be read"):
        Dataset.open(str(copied))


def test_a_manifest_cut_short(copied: Path) -> None:
    data = (copied / "manifest.json").read_bytes()
    (copied / "manifest.json").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"manifest\.json cannot be read"):
        Dataset.open(str(copied))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named(copied: Path, damage: str) -> None:
    do_damage(copied / "train" / "part-00001.parquet", damage)
    part = Dataset.open(str(copied)).split("train")
    with pytest.raises(InputError, match=r"train/part-00001\.parquet is damaged: .*; copy the file again") as caught:
        part.gather(np.arange(part.count))
    assert "\n" not in str(caught.value)


def _ids(path: Path) -> list[str]:
    found: list[str] = pq.read_table(path, columns=["id"]).column("id").to_pylist()
    return found
