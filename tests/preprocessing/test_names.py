"""Names of files that are not UTF-8, or have control characters: none costs a job, or an error line its form."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from preprocessing.common.command_line import CommandLine
from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from preprocessing.dataset.opening import Dataset
from preprocessing.dataset.verify import verify
from preprocessing.images.decode import decode
from tests.preprocessing.archives import write_kaggle, write_official
from tests.preprocessing.raw_images import CLASSES, jpeg, preprocess, write_folders

ROOT = Path(__file__).resolve().parents[2]
# As they lie below train/, and as ids.
ODD = {
    os.fsdecode(CLASSES[0].encode() + b"/caf\xe9.JPEG"): CLASSES[0] + "/caf\\xe9.JPEG",
    os.fsdecode(CLASSES[0].encode() + b"/caf\xe8.JPEG"): CLASSES[0] + "/caf\\xe8.JPEG",
    os.fsdecode(CLASSES[1].encode() + b"/\xed\xa0\x80.JPEG"): CLASSES[1] + "/\\xed\\xa0\\x80.JPEG",  # a surrogate
    os.fsdecode(CLASSES[1].encode() + b"/sub\xff/x.JPEG"): CLASSES[1] + "/sub\\xff/x.JPEG",
    CLASSES[2] + "/two\nlines\x1b.JPEG": CLASSES[2] + "/two\nlines\x1b.JPEG",
    CLASSES[2] + "/\u00e9\U0001f600.JPEG": CLASSES[2] + "/\u00e9\U0001f600.JPEG",
}


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    root = tmp_path / "raw"
    write_folders(root, {"train": 8, "val": 2})
    for number, name in enumerate(ODD):
        (root / "train" / name).parent.mkdir(exist_ok=True)
        (root / "train" / name).write_bytes(jpeg(40, 44, seed=100 + number))
    return root


def test_every_file_name_becomes_a_row(odd: Path, tmp_path: Path) -> None:
    manifest = preprocess(odd, tmp_path / "out", rows_per_shard=8)
    assert (manifest.images_in, manifest.rejected) == (36, 0)
    dataset = Dataset.open(str(tmp_path / "out"))
    assert verify(dataset) == 36
    files = [tmp_path / "out" / file.name for file in manifest.splits["train"].files]
    ids = [name for file in files for name in pq.read_table(file, columns=["id"], partitioning=None)["id"].to_pylist()]
    images, _ = dataset.split("train").gather(np.arange(30))
    for path, name in ODD.items():
        assert np.array_equal(images[ids.index(name)], decode((odd / "train" / path).read_bytes(), 32))
    assert preprocess(odd, tmp_path / "out", rows_per_shard=8).hash == manifest.hash  # is done


def test_a_bad_image_is_rejected_by_its_odd_name(odd: Path, tmp_path: Path) -> None:
    for path in ODD:
        (odd / "train" / path).write_bytes(b"<html>")
    with pytest.raises(InputError, match=r"6 of 36 images rejected so far") as caught:
        preprocess(odd, tmp_path / "out")
    assert "\n" not in str(caught.value)
    preprocess(odd, tmp_path / "out", max_rejected=0.5)
    assert sorted(pq.read_table(tmp_path / "out" / "rejected.parquet")["id"].to_pylist()) == sorted(ODD.values())


def test_a_file_that_is_gone_is_named_on_one_line(odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import preprocessing.job.run as job

    real = job.plan_shards

    def change_after_planning(splits: object, settings: object) -> object:
        for path in ODD:
            (odd / "train" / path).unlink()
        return real(splits, settings)  # type: ignore[arg-type]

    monkeypatch.setattr(job, "plan_shards", change_after_planning)
    with pytest.raises(
        InputError, match=r"(xe.|lines\\x1b|JPEG) has been deleted since the source was listed"
    ) as caught:
        preprocess(odd, tmp_path / "out")
    str(caught.value).encode()
    assert "\n" not in str(caught.value)


def test_a_class_without_a_text_for_a_name_is_an_error_before_spark(odd: Path, tmp_path: Path) -> None:
    os.mkdir(os.fsencode(odd / "train") + b"/caf\xe9")  # noqa: PTH102
    with pytest.raises(InputError, match=r"train/caf\\xe9: this class name is not UTF-8: rename the folder"):
        preprocess(odd, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_members_of_a_tar_with_odd_names(odd: Path, tmp_path: Path) -> None:
    for path in list(ODD)[1:4]:  # a folder; and in one class two such names may be the same text here
        (odd / "train" / path).unlink()
    (odd / "train" / list(ODD)[3]).parent.rmdir()
    write_official(odd, tmp_path / "tar")
    manifest = preprocess(tmp_path / "tar", tmp_path / "out")
    assert (manifest.images_in, manifest.rejected) == (33, 0)


def test_kaggles_tree_with_odd_names(odd: Path, tmp_path: Path) -> None:
    write_kaggle(odd, tmp_path / "kaggle")
    images = tmp_path / "kaggle" / "ILSVRC" / "Data" / "CLS-LOC"
    manifest = preprocess(tmp_path / "kaggle", tmp_path / "out")
    assert (manifest.source["layout"], manifest.images_in, manifest.rejected) == ("kaggle", 36, 0)
    (images / "val" / os.fsdecode(b"caf\xe9.JPEG")).write_bytes(b"")
    with pytest.raises(InputError, match=r"val/caf\\xe9\.JPEG has no label: .* does not name it"):
        preprocess(tmp_path / "kaggle", tmp_path / "other")


def test_a_folder_of_somebody_elses_with_odd_names(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"th\xe8se.txt")).write_text("years of work")
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")  # noqa: PTH102
    store = open_store(tmp_path)
    assert [os.fsencode(entry.name) for entry in store.entries()] == [b"th\xe8se.txt"]
    assert [os.fsencode(name) for name in store.folders()] == [b"caf\xe9"]
    store.delete_temporaries("")
    assert store.read(store.entries()[0].name) == b"years of work"
    store.delete(store.entries()[0].name)
    assert store.entries() == []


def test_a_temporary_file_with_an_odd_name_is_deleted(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b".caf\xe9." + b"0" * 32 + b".tmp")).touch()
    open_store(tmp_path).delete_temporaries("")
    assert list(tmp_path.iterdir()) == []


def test_an_argument_that_is_not_utf8() -> None:
    with pytest.raises(InputError, match=r"argument /raw/caf\\xe9 is not UTF-8: rename"):
        CommandLine("x", None).parse_args([os.fsdecode(b"/raw/caf\xe9")])


def test_a_terminal_that_cannot_show_a_name_ends_no_job(odd: Path, tmp_path: Path) -> None:
    output = tmp_path / "donn\u00e9es"
    command = [sys.executable, "jobs/preprocess.py", "--plan", "--source", str(odd), "--output", str(output)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "donn\\xe9es" in done.stdout
