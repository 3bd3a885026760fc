"""The Hugging Face hub's Parquet files: the dataset of the same class folders, every row counted, damage in a line."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import preprocessing.job.staging as staging
from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.storage import open_store
from preprocessing.dataset.opening import Dataset
from preprocessing.sources.base import SourceOptions
from preprocessing.sources.layouts import open_source
from tests.preprocessing.hub_files import TYPE, hub_table, write_hub
from tests.preprocessing.raw_images import CLASSES, jpeg, preprocess

IMAGE = jpeg(40, 40)
SMALL = {"size": 8, "max_rejected": 1.0}


@pytest.fixture(scope="module")
def hub(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    write_hub(raw, root)
    (root / "README.md").write_text("a dataset card")
    return root


def write(root: Path, name: str, rows: Any, names: Any = ("a", "b"), **columns: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(hub_table(rows, names, **columns), path)
    return path


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def says(root: Path, tmp_path: Path, pattern: str, **options: Any) -> None:
    """The job ends with this line and makes no dataset."""
    with pytest.raises(InputError, match=pattern) as caught:
        preprocess(root, tmp_path / "out", **{**SMALL, **options})
    assert type(caught.value) is InputError
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("pattern", "options"),
    [
        ("data/{}-{:05}-of-{:05}.parquet", {}),
        ("{}-{:05}-of-{:05}.parquet", {"compression": "none", "use_dictionary": False}),
        ("default/{}/{:04}.parquet", {"compression": "zstd", "row_group_size": 1000}),
        ("{}/{:04}.parquet", {"compression": "gzip", "data_page_size": 100, "data_page_version": "2.0"}),
        ("plain_text/{}-{:05}-of-{:05}-0123456789abcdef.parquet", {"use_byte_stream_split": False, "version": "1.0"}),
    ],
)
def test_the_dataset_is_that_of_class_folders(
    raw: Path, made: Path, tmp_path: Path, pattern: str, options: dict[str, Any]
) -> None:
    write_hub(raw, tmp_path / "hub", pattern, **options)
    assert open_source(open_store(tmp_path / "hub")).layout == "parquet"
    manifest = preprocess(tmp_path / "hub", tmp_path / "out", rows_per_shard=20)
    assert manifest.hash == Dataset.open(str(made)).content_hash
    ours, theirs = files_of(tmp_path / "out"), files_of(made)
    assert ours.keys() == theirs.keys()  # so no staged blob is left
    assert [name for name in ours if name != "manifest.json" and ours[name] != theirs[name]] == []


@pytest.mark.parametrize(
    "options",
    [
        {"classes": (CLASSES[0], CLASSES[2])},
        {"classes": 2, "seed": 3},
        {"images_per_class": 3, "holdout": 0.4},
        {"holdout": 5, "codec": "jpeg"},
    ],
)
def test_options_choose_the_same_images(raw: Path, hub: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    expected = preprocess(raw, tmp_path / "folders", **options)
    found = preprocess(hub, tmp_path / "out", **options)
    assert found.hash == expected.hash
    skipped = found.source["skipped"]
    left = expected.source["skipped"].get("not chosen", {"files": 0})["files"]
    assert skipped.pop("not chosen", {"files": 0})["files"] == left
    assert skipped == {"no image extension": {"files": 1, "first": "README.md"}}


def test_only_chosen_images_are_staged(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    real = staging._stage

    def look(extract: Any, folder: Any, unit: Any) -> Any:
        index = real(extract, folder, unit)
        sizes.extend(index.lengths)
        return index

    monkeypatch.setattr(staging, "_stage", look)
    preprocess(hub, tmp_path / "out", images_per_class=2)
    assert len(sizes) == 2 * 2 * 3


def test_val_is_test_if_there_is_no_validation(
    raw: Path, made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "preprocessing")
    write_hub(raw, tmp_path / "hub", val="test")
    assert (
        preprocess(tmp_path / "hub", tmp_path / "out", rows_per_shard=20).hash == Dataset.open(str(made)).content_hash
    )
    assert any(f"{tmp_path}/hub has no val: its test split" in message for message in caplog.messages)


def test_test_is_not_read_beside_validation(hub: Path, made: Path, tmp_path: Path) -> None:
    """ImageNet's has the label -1 for every image."""
    shutil.copytree(hub, tmp_path / "hub")
    write(tmp_path / "hub", "data/test-00000-of-00001.parquet", [(-1, "x.JPEG", IMAGE)], CLASSES)
    manifest = preprocess(tmp_path / "hub", tmp_path / "out", rows_per_shard=20)
    assert manifest.hash == Dataset.open(str(made)).content_hash
    assert manifest.source["skipped"]["file of a split that is not read"] == {
        "files": 1,
        "first": "data/test-00000-of-00001.parquet",
    }


def test_class_names_need_not_be_in_order_nor_unique(tmp_path: Path) -> None:
    """Hub's ImageNet counts its classes by wnid, and has two cranes."""
    rows = [(label, f"{label}.JPEG", IMAGE) for label in range(4)]
    write(tmp_path / "hub", "train.parquet", rows, ["tench, Tinca tinca", "crane", "abaya", "crane"])
    manifest = preprocess(tmp_path / "hub", tmp_path / "out", **SMALL)
    assert manifest.classes == ["abaya", "crane (1)", "crane (3)", "tench, Tinca tinca"]
    ids = pq.read_table(tmp_path / "out" / "train")
    found = dict(zip(ids["id"].to_pylist(), ids["label"].to_pylist(), strict=True))
    assert found == {"abaya/2.JPEG": 0, "crane (1)/1.JPEG": 1, "crane (3)/3.JPEG": 2, "tench, Tinca tinca/0.JPEG": 3}


def test_without_names_the_labels_are_the_classes(tmp_path: Path) -> None:
    write(tmp_path / "hub", "train.parquet", [(label, None, IMAGE) for label in (10, 2, 10, 0)], None)
    manifest = preprocess(tmp_path / "hub", tmp_path / "out", **SMALL)
    assert manifest.classes == ["00", "02", "10"]
    ids = sorted(pq.read_table(tmp_path / "out" / "train")["id"].to_pylist())
    assert ids == ["00/train-000003", "02/train-000001", "10/train-000000", "10/train-000002"]


def test_labels_that_may_count_from_1(tmp_path: Path) -> None:
    write(tmp_path / "hub", "train.parquet", [(label, None, IMAGE) for label in (1, 2)], None)
    says(
        tmp_path / "hub", tmp_path, "labels from 1 to 2, and nothing says whether they count from 0 or from 1: give --f"
    )
    for first, classes in ((0, ["1", "2"]), (1, ["0", "1"])):
        options = SourceOptions(first_label=first)
        manifest = preprocess(tmp_path / "hub", tmp_path / f"out{first}", source_options=options, **SMALL)
        assert manifest.classes == classes
    write(tmp_path / "named", "train.parquet", [(0, None, IMAGE), (1, None, IMAGE)])
    says(tmp_path / "named", tmp_path, "--first-label 1: .* has class names, which count", source_options=options)


def test_names_of_images_that_are_not_unique_are_not_used(tmp_path: Path) -> None:
    rows = [(0, "x/image.jpg", IMAGE), (1, "image.jpg", IMAGE), (0, "y/image.jpg", IMAGE)]
    write(tmp_path / "hub", "train.parquet", rows)
    preprocess(tmp_path / "hub", tmp_path / "out", **SMALL)
    ids = sorted(pq.read_table(tmp_path / "out" / "train")["id"].to_pylist())
    assert ids == ["a/train-000000", "a/train-000002", "b/train-000001"]


def test_columns_by_other_names(tmp_path: Path) -> None:
    rows = [(0, "0.jpg", IMAGE), (1, "1.jpg", IMAGE)]
    write(tmp_path / "usual", "train.parquet", rows, image="img", label="fine_label")
    assert preprocess(tmp_path / "usual", tmp_path / "out1", **SMALL).images_in == 2
    write(tmp_path / "hub", "train.parquet", rows, image="jpg", label="cls")
    says(
        tmp_path / "hub", tmp_path, r"train\.parquet has no column image or img, but jpg, cls: name it with --image-col"
    )
    options = SourceOptions("jpg", "cls")
    assert preprocess(tmp_path / "hub", tmp_path / "out", source_options=options, **SMALL).images_in == 2
    says(
        tmp_path / "usual",
        tmp_path / "other",
        r"--label-column nix: .*train\.parquet has no such column; it has img, fine_label",
        source_options=SourceOptions(label_column="nix"),
    )


def test_images_without_a_path_field(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    images = pa.array([{"bytes": IMAGE}] * 2, pa.struct([("bytes", pa.large_binary())]))
    pq.write_table(pa.table({"label": pa.array([1, 0], pa.uint8()), "image": images}), tmp_path / "hub/train.parquet")
    preprocess(tmp_path / "hub", tmp_path / "out", **SMALL)
    ids = sorted(pq.read_table(tmp_path / "out" / "train")["id"].to_pylist())
    assert ids == ["0/train-000001", "1/train-000000"]


def test_an_option_of_another_layout_is_refused(raw: Path, tmp_path: Path) -> None:
    says(
        raw,
        tmp_path,
        "--image-column img: only for layout .*parquet.*, and the source has layout folders",
        source_options=SourceOptions("img"),
    )


def test_class_folders_with_a_table_beside_them_stay_class_folders(raw: Path, tmp_path: Path) -> None:
    shutil.copytree(raw, tmp_path / "raw")
    for place in ("index.parquet", "train/index.parquet", f"train/{CLASSES[0]}/index.parquet"):
        pq.write_table(pa.table({"x": [1]}), tmp_path / "raw" / place)
    assert open_source(open_store(tmp_path / "raw")).layout == "folders"


def break_schema(root: Path) -> None:
    rows = [(0, "9.jpg", IMAGE)]
    pq.write_table(hub_table(rows, CLASSES, image="img"), root / "data/train-00001-of-00003.parquet")


def retype_label(root: Path) -> None:
    table = pa.table({"image": pa.array([{"bytes": IMAGE, "path": "x"}], TYPE), "label": ["tench"]})
    pq.write_table(table, root / "data/train-00001-of-00003.parquet")


def with_row(label: int | None, data: bytes | None = IMAGE) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        rows = [(0, "8.jpg", IMAGE), (label, "9.jpg", data)]
        write(root, "data/train-00001-of-00003.parquet", rows, CLASSES)

    return spoil


def cut(root: Path) -> None:
    path = root / "data/train-00001-of-00003.parquet"
    path.write_bytes(path.read_bytes()[:-100])


def spoil_pages(root: Path) -> None:
    path = root / "data/train-00001-of-00003.parquet"
    data = bytearray(path.read_bytes())
    data[4:2000] = bytes(1996)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "pattern"),
    [
        (with_row(3), r"00001-of-00003\.parquet: row 1 has label 3, and not one of 0 to 2, as it has 3 class names"),
        (with_row(-1), r"00001-of-00003\.parquet: row 1 has label -1, and not one of 0 to 2"),
        (with_row(None), r"00001-of-00003\.parquet: row 1 has no label \(it is null\): remove the row"),
        (with_row(0, None), r"00001-of-00003\.parquet: row 1 has no image \(its bytes are null\): remove the row"),
        (break_schema, r"00001-of-00003\.parquet has no column image, unlike the first file, but img, label"),
        (retype_label, r"00001-of-00003\.parquet: column label is string, not whole numbers: give --label-column"),
        (
            lambda root: write(root, "data/train-00001-of-00003.parquet", [(0, "9.jpg", IMAGE)], ["x"]),
            r"00001-of-00003\.parquet has other class names than the first file",
        ),
        (cut, r"00001-of-00003\.parquet is damaged, or not Parquet \(.*\): download it again"),
        (spoil_pages, r"00001-of-00003\.parquet is damaged, or not Parquet \(.*\): download it again"),
        (
            lambda root: (root / "data/train-00001-of-00003.parquet").unlink(),
            r"data/train-00001-of-00003\.parquet is missing: download it as well",
        ),
        (
            lambda root: write(root, "data/train-00000-of-00001.parquet", [(0, "9.jpg", IMAGE)], CLASSES),
            r"data/train-\* are of two versions, -of-00001 and -of-00003: remove one",
        ),
        (
            lambda root: write(root, "data/more.parquet", [(0, "9.jpg", IMAGE)], CLASSES),
            r"the name of data/more\.parquet tells no split \(train, validation or test\)",
        ),
        (
            lambda root: write(root, "other/train.parquet", [(0, "9.jpg", IMAGE)], CLASSES),
            r"holds more than one dataset \(data, other\): give the folder of one as --source",
        ),
        (
            lambda root: [path.unlink() for path in root.glob("data/train*")],
            r"has no files of train \(only such as data/validation-00000-of-00003\.parquet\): add them",
        ),
        (
            lambda root: [
                write(root, f"data/{path.name}", [(0, path.name, IMAGE)], CLASSES) for path in root.glob("data/*")
            ],
            rf"class {CLASSES[1]} holds no images, and 1 more classes like it: choose classes that have images",
        ),
    ],
)
def test_what_is_wrong_is_one_line(hub: Path, tmp_path: Path, spoil: Any, pattern: str) -> None:
    shutil.copytree(hub, tmp_path / "hub")
    spoil(tmp_path / "hub")
    says(tmp_path / "hub", tmp_path, pattern)


def test_a_label_that_only_val_has(tmp_path: Path) -> None:
    write(tmp_path / "hub", "train.parquet", [(0, "0.jpg", IMAGE)], None)
    write(tmp_path / "hub", "test.parquet", [(0, "1.jpg", IMAGE), (1, "2.jpg", IMAGE)], None)
    says(tmp_path / "hub", tmp_path, r"test\.parquet: row 1 has label 1, which train does not have: remove the row")


def test_class_names_that_are_no_text(tmp_path: Path) -> None:
    write(tmp_path / "hub", "train.parquet", [(0, "0.jpg", IMAGE), (1, "1.jpg", IMAGE)], ["a\ud800", "b"])
    says(tmp_path / "hub", tmp_path, r"train\.parquet: the class names in its metadata are damaged: download it again")


def test_a_class_name_of_two_lines_is_one_in_messages(tmp_path: Path) -> None:
    write(tmp_path / "hub", "train.parquet", [(0, "0.jpg", IMAGE)], ["a", "b\nc"])
    says(tmp_path / "hub", tmp_path, r"class b\\nc holds no images: choose classes that have images")


def test_names_of_images_that_are_not_utf8(tmp_path: Path) -> None:
    """Writers need not check it. The ids are those of class folders with such names."""
    names = pa.array([b"caf\xe9.jpg", "café.jpg".encode()], pa.binary()).view(pa.string())
    images = pa.StructArray.from_arrays([pa.array([IMAGE, IMAGE]), names], ["bytes", "path"])
    (tmp_path / "hub").mkdir()
    pq.write_table(pa.table({"image": images, "label": pa.array([0, 1])}), tmp_path / "hub" / "train.parquet")
    source = open_source(open_store(tmp_path / "hub"))
    assert source.catalogue(source.classes()).splits["train"]["id"].to_pylist() == ["0/caf\\xe9.jpg", "1/café.jpg"]
    assert preprocess(tmp_path / "hub", tmp_path / "out", **SMALL).images_in == 2


def test_an_empty_image_is_rejected_as_an_empty_file_is(tmp_path: Path) -> None:
    write(tmp_path / "hub", "train.parquet", [(0, "0.jpg", IMAGE), (1, "1.jpg", IMAGE), (1, "2.jpg", b"")])
    manifest = preprocess(tmp_path / "hub", tmp_path / "out", **SMALL)
    assert (manifest.images_in, manifest.rejected) == (3, 1)
    assert pq.read_table(tmp_path / "out" / "rejected.parquet")["reason"].to_pylist() == ["empty"]


def test_storage_that_fails_is_not_called_damage(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(open_store(hub))
    real = type(source.store).open_input

    class Failing:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def read(self, size: int | None = None) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(type(source.store), "open_input", lambda store, path: Failing(real(store, path)))
    with pytest.raises(StorageError, match=r"cannot read .*train-00000-of-00003\.parquet: Input/output error"):
        source.catalogue(CLASSES)
