"""Sources as Macs, browsers, editors and archivers leave them: read, or said what to do in one line."""

from __future__ import annotations

import bz2
import codecs
import errno
import gzip
import io
import lzma
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.storage import Store, open_store
from preprocessing.dataset.opening import Dataset
from preprocessing.sources.layouts import open_source
from preprocessing.sources.text_files import decode_text
from tests.preprocessing.archives import NAMES, tar_bytes, write_kaggle, write_official
from tests.preprocessing.raw_images import CLASSES, preprocess

TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
TEXT = "n01440764 tench, Tinca tinca\nn01443537 góldfish\n"


@pytest.fixture
def official(raw: Path, tmp_path: Path) -> Path:
    write_official(raw, tmp_path / "tar")
    return tmp_path / "tar"


def is_the_same(root: Path, made: Path) -> None:
    preprocess(root, root.parent / "out", rows_per_shard=20)
    assert Dataset.open(str(root.parent / "out")).content_hash == Dataset.open(str(made)).content_hash


def contents(data: bytes) -> dict[str, bytes]:
    """The files of a tar, compressed or not."""
    files = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            opened = archive.extractfile(member)
            assert opened is not None
            files[member.name] = opened.read()
    return files


def repack(path: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> bytes:
    """An archive with its files changed, not compressed."""
    return tar_bytes(change(contents(path.read_bytes())))


def with_twins(files: dict[str, bytes]) -> dict[str, bytes]:
    """As macOS packs files that have extended attributes: each has an AppleDouble twin."""
    twins = {}
    for name, data in files.items():
        folder, slash, last = name.rpartition("/")
        inside = tar_bytes(with_twins(contents(data))) if last.endswith(".tar") else data
        twins |= {f"{folder}{slash}._{last}": b"\0\5\x16\7" * 40, name: inside}
    return twins


def test_twins_of_a_mac_are_skipped(official: Path, made: Path) -> None:
    for name in (TRAIN, VAL):
        (official / name).write_bytes(repack(official / name, with_twins))
    (official / DEVKIT).write_bytes(gzip.compress(repack(official / DEVKIT, with_twins)))
    (official / f"._{TRAIN}").write_bytes(b"\0\5\x16\7")
    is_the_same(official, made)
    found = Dataset.open(str(official.parent / "out")).manifest.source["skipped"]
    assert found["hidden or a tool's"] == {"files": 3 + 42 + 12 + 1, "first": f"._{TRAIN}"}


@pytest.mark.parametrize("name", [DEVKIT, DEVKIT.removesuffix(".gz")])
def test_a_development_kit_that_a_browser_has_unpacked(official: Path, made: Path, name: str) -> None:
    data = gzip.decompress((official / DEVKIT).read_bytes())
    (official / DEVKIT).unlink()
    (official / name).write_bytes(data)
    is_the_same(official, made)


@pytest.mark.parametrize("archive", [TRAIN, VAL])
@pytest.mark.parametrize(
    ("compress", "kind"), [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz")]
)
def test_a_compressed_archive_of_the_official_name(
    official: Path, tmp_path: Path, archive: str, compress: Callable[[bytes], bytes], kind: str
) -> None:
    (official / archive).write_bytes(compress((official / archive).read_bytes()))
    with pytest.raises(
        InputError, match=rf"{archive} is compressed with {kind}, and has to be unpacked first: mv"
    ) as why:
        preprocess(official, tmp_path / "out")
    if shutil.which({"gzip": "gunzip", "bzip2": "bunzip2", "xz": "unxz"}[kind]):
        subprocess.run(["sh", "-ec", str(why.value).split(": ")[1]], cwd=official, check=True, timeout=20)
        assert preprocess(official, tmp_path / "out").images_in == 54


@pytest.mark.parametrize("archive", [TRAIN, VAL])
def test_a_compressed_archive_of_another_name(official: Path, archive: str) -> None:
    (official / f"{archive}.gz").write_bytes(gzip.compress((official / archive).read_bytes()))
    (official / archive).unlink()
    with pytest.raises(InputError, match=rf"{archive}\.gz is compressed, .*: gunzip {archive}\.gz$"):
        open_source(open_store(official))


def test_a_compressed_class_tar(official: Path, tmp_path: Path) -> None:
    data = repack(official / TRAIN, lambda files: {name: gzip.compress(data) for name, data in files.items()})
    (official / TRAIN).write_bytes(data)
    with pytest.raises(InputError, match=r"n01440764\.tar in it is compressed with gzip, .*: download the"):
        preprocess(official, tmp_path / "out")


def test_a_class_tar_that_is_there_twice(official: Path) -> None:
    data = (official / TRAIN).read_bytes()
    twice = repack(official / TRAIN, lambda files: files | {f"again/{CLASSES[0]}.tar": files[f"{CLASSES[0]}.tar"]})
    assert len(twice) > len(data)
    (official / TRAIN).write_bytes(twice)
    with pytest.raises(InputError, match=r"holds n01440764\.tar twice"):
        open_source(open_store(official))


def mark(text: str) -> bytes:
    return codecs.BOM_UTF8 + text.encode()


def windows(text: str) -> bytes:
    return codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode()


def powershell(text: str) -> bytes:
    return codecs.BOM_UTF16_LE + text.replace("\n", "\r\n").encode("utf-16-le")


@pytest.mark.parametrize("save", [mark, windows, powershell])
def test_text_files_of_any_editor(raw: Path, made: Path, tmp_path: Path, save: Callable[[str], bytes]) -> None:
    assert decode_text(save(TEXT)).splitlines() == TEXT.splitlines()
    kaggle, official = tmp_path / "kaggle" / "raw", tmp_path / "tar" / "raw"
    kaggle.parent.mkdir()
    official.parent.mkdir()
    write_kaggle(raw, kaggle)
    for name in ("LOC_val_solution.csv", "LOC_synset_mapping.txt"):
        (kaggle / name).write_bytes(save((kaggle / name).read_text()))
    is_the_same(kaggle, made)
    assert open_source(open_store(kaggle)).names() == NAMES

    write_official(raw, official)
    truth = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
    kit = repack(official / DEVKIT, lambda files: files | {truth: save(files[truth].decode())})
    (official / DEVKIT).write_bytes(gzip.compress(kit))
    is_the_same(official, made)


class Failing:
    """An open file that cannot be read from byte 2,000 on."""

    def __init__(self, file: Any, error: Exception) -> None:
        self.file, self.error = file, error

    def __enter__(self) -> Failing:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def read_at(self, length: int, offset: int) -> bytes:
        if offset >= 2000:
            raise self.error
        return bytes(self.file.read_at(length, offset))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.EIO, os.strerror(errno.EIO)), "Input/output error; the disk fails"),
        (pa.ArrowInvalid("broken"), "broken; check the disk"),
    ],
)
@pytest.mark.parametrize("name", [TRAIN, VAL])
def test_storage_that_fails_while_an_archive_is_indexed(
    official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str, name: str
) -> None:
    real = Store.open_input
    monkeypatch.setattr(
        Store, "open_input", lambda self, path: Failing(real(self, path), error) if path == name else real(self, path)
    )
    with pytest.raises(InputError) as caught:
        preprocess(official, tmp_path / "out")
    assert type(caught.value) is StorageError
    assert str(caught.value).startswith(f"cannot read {official / name}: {says}")
