"""Every file below a source becomes a row, is rejected, or is told as skipped; and no folder is a class by mistake."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from preprocessing.dataset.opening import Dataset
from preprocessing.job.plan import plan
from preprocessing.job.prepare import Request
from preprocessing.job.settings import Settings
from preprocessing.sources.file_names import TOOL_FOLDERS, is_hidden
from preprocessing.sources.layouts import open_source
from preprocessing.sources.skipped import Skipped
from tests.preprocessing.archives import gzip_bytes, write_kaggle, write_official
from tests.preprocessing.hub_files import write_hub
from tests.preprocessing.pixel_files import archive, cifar10_files, grays, write_idx
from tests.preprocessing.raw_images import CLASSES, jpeg, no_spark, preprocess, write_folders
from tests.preprocessing.shard_files import cls_tar, slim_records, write_shards, write_tiny

Log = pytest.LogCaptureFixture
IMAGE = jpeg(40, 40)
SMALL = {"size": 8, "max_rejected": 1.0}


@pytest.fixture(autouse=True)
def logged(caplog: Log) -> None:
    caplog.set_level(logging.INFO, "preprocessing")


def put(root: Path, *paths: str, data: bytes = IMAGE) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


def skipped(manifest: Any) -> dict[str, int]:
    return {reason: found["files"] for reason, found in manifest.source["skipped"].items()}


TOOLS = (".ipynb_checkpoints", "@eaDir", "__MACOSX", "$RECYCLE.BIN", "lost+found", "System Volume Information")


def test_folders_of_tools_are_not_classes(raw: Path, made: Path, tmp_path: Path, caplog: Log) -> None:
    """They took labels and moved those of all classes after them; thumbnails became rows."""
    root = tmp_path / "raw"
    shutil.copytree(raw, root)
    (root / "train" / ".git").mkdir()
    for name in TOOLS:
        put(root, f"train/{name}/thumbnail.jpg", f"val/{name}/a.JPEG", f"train/{CLASSES[1]}/{name}/b.jpg", f"{name}/c")
    put(
        root,
        f"train/{CLASSES[0]}/._{CLASSES[0]}_0.JPEG",
        f"val/{CLASSES[2]}/.DS_Store",
        f"train/{CLASSES[0]}/Thumbs.db",
    )
    manifest = preprocess(root, tmp_path / "out", rows_per_shard=20)
    assert Dataset.open(str(tmp_path / "out")).content_hash == Dataset.open(str(made)).content_hash
    assert skipped(manifest) == {"hidden or a tool's": 4 * len(TOOLS) + 2, "no image extension": 1}
    told, _ = caplog.messages  # the other is the progress
    assert told.startswith("skipped 27 files: hidden or a tool's 26 (such as $RECYCLE.BIN/c), no image extension 1 (")


def test_names_of_tools() -> None:
    assert all(is_hidden(f"n01440764/{name.upper()}/a.JPEG") for name in TOOL_FOLDERS)
    assert all(is_hidden(name) for name in (*TOOLS, ".snapshot", ".Trash-1000", ".thumbnails", "._n01440764.tar"))
    assert not any(is_hidden(name) for name in ("n01440764", "./n01440764/a.JPEG", "recycled", "a.b", "~a", "@home"))


@pytest.mark.parametrize("layout", ["folders", "kaggle", "tar"])
def test_a_class_without_images_is_refused_by_name(raw: Path, tmp_path: Path, layout: str) -> None:
    folders = tmp_path / "raw"
    shutil.copytree(raw, folders)
    for image in (folders / "train" / CLASSES[1]).iterdir():
        image.rename(image.with_suffix(".tif"))
    root = folders
    if layout != "folders":
        root = tmp_path / layout
        {"kaggle": write_kaggle, "tar": write_official}[layout](folders, root)
    with pytest.raises(InputError, match=rf"class {CLASSES[1]} holds no images: ") as caught:
        preprocess(root, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    others = (CLASSES[0], CLASSES[2])
    assert preprocess(root, tmp_path / "out", classes=others).classes == list(others)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda root: put(root, "val/a.JPEG", "val/b.JPEG"),
            "val holds 2 images and no class folders, .*a.JPEG.*move them",
        ),
        (
            lambda root: put(root, "validation/a/x.JPEG", "Valid/a/x.JPEG"),
            "raw holds Valid and validation, and only one of them can be val: rename it to val",
        ),
        (lambda root: put(root, "test/a/x.JPEG", "test/c/x.JPEG"), "test/c is not a class of train: add it there, or"),
        (lambda root: (root / "val/a").mkdir(parents=True), "val holds no images in its class folders: put some there"),
        (lambda root: (root / "val").symlink_to("/gone"), "val is a dead link: mount its target"),
        (
            lambda root: (root / "train/c").symlink_to("/gone"),
            "train/c is a dead link that may have been a class",
        ),
        (lambda root: (root / "train/c").symlink_to("../train/c"), "train/c is a dead link"),
    ],
)
def test_images_meant_for_the_dataset_that_would_be_lost(tmp_path: Path, spoil: Any, says: str) -> None:
    put(tmp_path / "raw", "train/a/0.JPEG", "train/b/0.JPEG")
    spoil(tmp_path / "raw")
    with pytest.raises(InputError, match=says) as caught:
        preprocess(tmp_path / "raw", tmp_path / "out", start=no_spark)
    assert "\n" not in str(caught.value)


def test_a_class_of_val_that_is_a_dead_link(tmp_path: Path) -> None:
    put(tmp_path, "train/a/0.JPEG", "train/b/0.JPEG", "val/a/0.JPEG")
    (tmp_path / "val/b").symlink_to("/gone")
    with pytest.raises(InputError, match="val/b is a dead link"):
        open_source(open_store(tmp_path)).classes()


def test_a_train_folder_that_is_a_dead_link(tmp_path: Path) -> None:
    (tmp_path / "train").symlink_to("/gone")
    with pytest.raises(InputError, match=r"it holds train \(a dead link\)"):
        open_source(open_store(tmp_path))


def test_what_may_be_missed_is_a_warning(tmp_path: Path, caplog: Log, capsys: Any) -> None:
    root = tmp_path / "raw"
    put(root, "train/a/0.JPEG", "train/a/deep/1.JPEG", "train/b/0.JPEG", "val/a/0.JPEG")
    put(root, "train/beside.JPEG", "test/0.JPEG", "test/1.JPEG", "train/b/1.tiff", "train/b/one\nline.txt")
    (root / "train/b/dead.JPEG").symlink_to("/gone")
    (root / "train/b/loop").symlink_to("../b")
    os.mkfifo(root / "train/b/pipe.JPEG")
    (root / os.fsdecode(b"train/b/\xff.txt")).write_bytes(b"")
    manifest = preprocess(root, tmp_path / "out", **SMALL)
    expected = [
        "image of a format that is not read 1, such as train/b/1.tiff: to have them in the dataset, convert them",
        "dead link 2, such as train/b/dead.JPEG: mount or copy",
        "image outside the class folders 1, such as train/beside.JPEG: to have them in the dataset, move them into",
        "image outside the layout 2, such as test/0.JPEG: to have them in the dataset, move them where",
    ]
    *told, summary = [message for message in caplog.messages if not message.startswith("convert: ")]
    assert summary.startswith("skipped 9 files: ")
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    for line, text in zip(warnings, expected, strict=True):
        assert line.startswith(f"not in the dataset: {text}")
    assert sum(skipped(manifest).values()) == 9
    assert capsys.readouterr().out.endswith("9 other files skipped\n")
    assert manifest.images_in == 4
    again = Dataset.open(str(tmp_path / "out")).manifest.source["skipped"]
    assert again["image outside the layout"] == {"files": 2, "first": "test/0.JPEG"}

    shutil.rmtree(tmp_path / "out")
    caplog.clear()
    plan(Request(str(root), str(tmp_path / "out"), Settings(size=8)))
    assert caplog.messages == told
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("source: ")
    assert summary in lines


def test_links_that_lead_in_circles_end(tmp_path: Path) -> None:
    put(tmp_path, "train/a/0.JPEG", "train/b/0.JPEG")
    (tmp_path / "train/a/b").symlink_to("../b")
    (tmp_path / "train/b/a").symlink_to("../a")
    found = open_source(open_store(tmp_path)).catalogue(("a", "b"))
    # Each leads to the other, whose link leads back.
    assert found.splits["train"]["id"].to_pylist() == ["a/0.JPEG", "a/b/0.JPEG", "b/0.JPEG", "b/a/0.JPEG"]
    assert found.skipped.as_dict() == {"dead link": {"files": 2, "first": "train/a/b/a"}}


def test_an_image_whose_name_is_not_utf8(tmp_path: Path) -> None:
    put(tmp_path, "train/a/0.JPEG")
    (tmp_path / os.fsdecode(b"train/a/\xff.JPEG")).write_bytes(IMAGE)
    found = open_source(open_store(tmp_path)).catalogue(("a",))
    assert found.splits["train"]["id"].to_pylist() == ["a/0.JPEG", r"a/\xff.JPEG"]


def test_folders_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a class are missed; what else is in the way, as ext4's lost+found, is told."""
    put(tmp_path, "train/a/0.JPEG", "train/b/0.JPEG", "lost+found/x", "other/x")
    real, refused = os.scandir, ("lost+found", "other")

    def scandir(path: Any) -> Any:
        if str(path).endswith(refused):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    skipped = open_source(open_store(tmp_path)).catalogue(("a", "b")).skipped
    assert skipped.as_dict() == {
        "hidden or a tool's": {"files": 1, "first": "lost+found"},
        "folder that cannot be listed": {"files": 1, "first": "other"},
    }
    refused = ("train/b",)
    with pytest.raises(InputError, match=r"cannot list .*/train/b: Permission denied; check the permissions"):
        open_source(open_store(tmp_path)).catalogue(("a", "b"))


def test_what_is_not_chosen_is_counted(raw: Path, tmp_path: Path) -> None:
    manifest = preprocess(raw, tmp_path / "few", images_per_class=3, classes=CLASSES[:2], holdout=2)
    assert skipped(manifest) == {"not chosen": 54 - 12}
    assert preprocess(raw, tmp_path / "all", holdout=2).source["skipped"] == {}


NAMES = ("x.JPEG", "y.png", "bad.jpg", "notes.txt", ".hidden.JPEG", "z.tiff", "a.tar.gz", "Thumbs.db", "dead.JPEG")
HIDDEN = ("", ".cache", "@eaDir")
KAGGLE = "ILSVRC/Data/CLS-LOC"
# Where files are scattered: in class folders, where deeper folders count too; and where there are no classes.
PLACES = {
    "folders": (("train/{}", "val/{}"), ("train", "val", "test/n01440764", "other", "")),
    "kaggle": ((f"{KAGGLE}/train/{{}}",), (f"{KAGGLE}/train", f"{KAGGLE}/test", "ILSVRC/Annotations/a", "ILSVRC", "")),
    "tar": ((), ("", "train/a", "other")),
    "tiny-imagenet": (("train/{}",), ("train", "val", "test/images", "other", "")),
    "webdataset": ((), ("", "other/a", "other")),
    "tfrecord": ((), ("", "other/a", "other")),
    "idx": ((), ("", "train/a", "other")),
    "cifar": ((), ("", "train/a", "other")),
    "parquet": ((), ("", "data", "other")),
}


def write_source(layout: str, folders: Path, root: Path) -> int:
    """A source of few images. Returns how many files it has: those in archives count, the archives do not."""
    rows = count_files(folders)
    if layout == "webdataset":
        write_shards(folders, root, cls_tar, "{split}-{number}.tar")
        return 2 * rows
    if layout == "parquet":
        write_hub(folders, root, files=2)
        return rows
    if layout == "tfrecord":
        write_shards(folders, root, slim_records, "{split}-{number:05}-of-00002")
        return rows
    if layout == "idx":
        write_idx(root, {"train": (grays(8, 8, 8), [0, 1] * 4), "t10k": (grays(2, 8, 8), [0, 1])})
        return 8 + 2 + 2
    if layout == "cifar":
        files = cifar10_files(per_batch=2)
        put(root, "cifar-10-binary.tar.gz", data=gzip_bytes(archive(files, "cifar-10-batches-bin")))
        return 12 + 2
    {"kaggle": write_kaggle, "tar": write_official, "tiny-imagenet": write_tiny}[layout](folders, root)
    return count_files(root) + (rows - 2 if layout == "tar" else 0)


def scatter(root: Path, parent: str, folders: tuple[str, ...], chance: random.Random) -> None:
    """Files of all kinds in a folder and below it."""
    for name in chance.sample(NAMES, chance.randrange(len(NAMES))):
        path = root / parent / chance.choice(folders) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == "dead.JPEG":
            path.symlink_to("/gone")
        else:
            path.write_bytes(b"<html>" if name == "bad.jpg" else IMAGE)


def count_files(root: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(root))


@pytest.mark.parametrize("seed", range(4 * len(PLACES)))
def test_every_file_is_a_row_rejected_or_skipped(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    layout = tuple(PLACES)[seed % len(PLACES)]
    root = folders = tmp_path / "folders"
    write_folders(folders, {"train": 2, "val": 2})
    files = count_files(root)
    if layout != "folders":
        root = tmp_path / layout
        files = write_source(layout, folders, root)
    before = count_files(root)
    for parent in PLACES[layout][0]:
        for name in CLASSES:
            scatter(root, parent.format(name), (*HIDDEN, "deep", "deep/er"), chance)
    for parent in PLACES[layout][1]:
        scatter(root, parent, HIDDEN, chance)
    files += count_files(root) - before
    options = {**SMALL, "images_per_class": chance.choice([None, 2]), "holdout": 1}
    if layout != "tar":  # a class tar that is not chosen is not opened
        options["classes"] = chance.choice([None, 2])
    manifest = preprocess(root, tmp_path / "out", **options)
    assert manifest.source["layout"] == layout
    rows = sum(split.count for split in manifest.splits.values())
    assert rows + manifest.rejected + sum(skipped(manifest).values()) == files


def test_members_of_archives_are_counted(raw: Path, tmp_path: Path, caplog: Log) -> None:
    import io
    import tarfile

    def tar(images: dict[str, bytes], links: tuple[str, ...] = ()) -> bytes:
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w") as archive:
            for name, data in images.items():
                header = tarfile.TarInfo(name)
                header.size = len(data)
                archive.addfile(header, io.BytesIO(data))
            for name in links:
                header = tarfile.TarInfo(name)
                header.type, header.linkname = tarfile.LNKTYPE, "0.JPEG"
                archive.addfile(header)
        return sink.getvalue()

    one = tar({"0.JPEG": IMAGE, "._0.JPEG": b"", "readme.txt": b"", "@eaDir/0.JPEG": IMAGE}, links=("1.JPEG",))
    outer = tar({"a.tar": one, "b.tar": one, "beside.JPEG": IMAGE, "._a.tar": b"mac"})
    put(tmp_path / "raw", "ILSVRC2012_img_train.tar", data=outer)
    manifest = preprocess(tmp_path / "raw", tmp_path / "out", classes=("a",), **SMALL)
    assert skipped(manifest) == {
        "class tar not chosen": 1,
        "hidden or a tool's": 3,
        "no image extension": 1,
        "link in a tar": 1,
        "image outside the class folders": 1,
    }
    assert "link in a tar 1, such as ILSVRC2012_img_train.tar/a.tar/1.JPEG: unpack" in caplog.text


def test_a_manifest_without_the_account_still_opens(made: Path, raw: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    shutil.copytree(made, out)
    old = json.loads((out / "manifest.json").read_text())
    del old["source"]["skipped"]
    (out / "manifest.json").write_text(json.dumps(old))
    preprocess(raw, out, start=no_spark, rows_per_shard=20)
    assert re.search(r"holds this dataset already: .* hash \w{12}; nothing to do", capsys.readouterr().out)


def test_messages_and_manifests_have_the_same_names_for_reasons() -> None:
    skipped = Skipped()
    table = (Path(__file__).parents[2] / "docs/data-format.md").read_text().partition("## Skipped files")[2]
    reasons = re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)
    for reason in reasons:
        skipped.add(reason, "x")
    assert list(skipped.as_dict()) == reasons
    assert all(f"{reason} 1 (such as x)" in skipped.summary() for reason in reasons)


def test_nothing_skipped_says_nothing() -> None:
    assert Skipped().summary() == ""
    assert Skipped().warnings() == []
