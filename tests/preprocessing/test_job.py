"""The job as its users meet it: exact accounting, going on after a stop, and errors before any work."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from preprocessing.common.errors import InputError
from preprocessing.common.storage import Store, open_store
from preprocessing.dataset.opening import Dataset
from preprocessing.job import commit
from preprocessing.job.shards import Shard, read_record
from tests.preprocessing.raw_images import CLASSES, jpeg, no_spark, preprocess, write_folders


def test_a_second_run_has_nothing_to_do(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = preprocess(raw, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert preprocess(raw, tmp_path / "out", start=no_spark) == first
    assert "holds this dataset already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_same_twice_is_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        preprocess(raw, tmp_path / name, holdout=0.2)
    for path in sorted((tmp_path / "a").rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path


def test_another_dataset_is_replaced_only_on_request(raw: Path, tmp_path: Path) -> None:
    preprocess(raw, tmp_path / "out")
    with pytest.raises(InputError, match=r"other settings: give --overwrite, or another --output"):
        preprocess(raw, tmp_path / "out", start=no_spark, size=16)
    assert Dataset.open(str(tmp_path / "out")).size == 32
    preprocess(raw, tmp_path / "out", size=16, overwrite=True)
    assert Dataset.open(str(tmp_path / "out")).size == 16
    assert not (tmp_path / "out" / "_work").exists()


def test_bad_images_are_counted_listed_and_left_out(tmp_path: Path) -> None:
    whole = jpeg(60, 80)
    bad = {
        f"train/{CLASSES[0]}/zero.JPEG": b"",
        f"train/{CLASSES[0]}/page.JPEG": b"<!DOCTYPE html><html>not found</html>",
        f"train/{CLASSES[1]}/cut.JPEG": whole[: len(whole) // 2],
        f"val/{CLASSES[2]}/cut.JPEG": whole[: len(whole) // 3],
        f"train/{CLASSES[1]}/notes.txt": b"no image",
    }
    write_folders(tmp_path / "raw", {"train": 5, "val": 2}, bad)
    manifest = preprocess(tmp_path / "raw", tmp_path / "out", max_rejected=0.5, rows_per_shard=3)
    assert (manifest.images_in, manifest.rejected) == (25, 4)
    assert {name: info.count for name, info in manifest.splits.items()} == {"train": 15, "val": 6}
    rejected = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert [(row["split"], row["id"], row["reason"]) for row in rejected] == [
        ("train", f"{CLASSES[0]}/page.JPEG", "not an image"),
        ("train", f"{CLASSES[0]}/zero.JPEG", "empty"),
        ("train", f"{CLASSES[1]}/cut.JPEG", "truncated"),
        ("val", f"{CLASSES[2]}/cut.JPEG", "truncated"),
    ]
    assert Dataset.open(str(tmp_path / "out")).split("train").count == 15


def test_too_many_bad_images_stop_the_job_and_a_larger_limit_goes_on(tmp_path: Path) -> None:
    write_folders(tmp_path / "raw", {"train": 5}, {f"train/{CLASSES[0]}/zero.JPEG": b""})
    with pytest.raises(InputError) as caught:
        preprocess(tmp_path / "raw", tmp_path / "out")
    assert "1 of 16 images rejected so far, more than --max-rejected 0.001 allows: empty 1; " in str(caught.value)
    assert f"train/{CLASSES[0]}/zero.JPEG" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "manifest.json").exists()
    with pytest.raises(InputError, match="is not a dataset"):
        Dataset.open(str(tmp_path / "out"))
    assert preprocess(tmp_path / "raw", tmp_path / "out", max_rejected=0.1).rejected == 1


def test_whole_shards_of_a_stopped_job_are_kept(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import preprocessing.job.run as job

    whole = preprocess(raw, tmp_path / "whole", rows_per_shard=10)
    real, converted = job.convert_shard, []

    def stop_after_three(shard: Any, **options: Any) -> Any:
        if len(converted) == 3:
            raise KeyboardInterrupt
        converted.append(shard.file_name)
        return real(shard, **options)

    monkeypatch.setattr(job, "convert_shard", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        preprocess(raw, tmp_path / "out", rows_per_shard=10)
    kept = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in converted}
    (tmp_path / "out" / converted[1]).write_bytes(b"cut short")

    monkeypatch.setattr(job, "convert_shard", real)
    caplog.set_level(logging.INFO, "preprocessing")
    assert preprocess(raw, tmp_path / "out", rows_per_shard=10) == whole
    assert "2 of 7 shards were finished by an earlier run" in caplog.messages
    again = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in converted}
    assert [name for name in converted if again[name] != kept[name]] == [converted[1]]


def test_files_that_the_driver_does_not_see_are_no_dataset(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a cluster with a disk of its own on every machine, which share the name of the output."""
    import preprocessing.job.run as job

    out, elsewhere = tmp_path / "out", tmp_path / "executor"
    real = job.convert_shard

    def convert_elsewhere(shard: Any, output: Store, **options: Any) -> Any:
        return real(shard, output=open_store(elsewhere), **options)

    monkeypatch.setattr(job, "convert_shard", convert_elsewhere)
    monkeypatch.setattr("preprocessing.job.output.SHARE_PAUSES", (0.0,))
    with pytest.raises(
        InputError, match=r"^--output .*/out: the driver does not see train/part-00000\.parquet, "
    ) as caught:
        preprocess(raw, out)
    assert type(caught.value) is InputError
    assert not (out / "manifest.json").exists()
    shutil.copytree(elsewhere, out, dirs_exist_ok=True)
    monkeypatch.setattr(job, "convert_shard", lambda *_, **__: 1 / 0)
    assert preprocess(raw, out).images_in == 54


def test_a_share_may_show_files_late(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr("preprocessing.job.output.SHARE_PAUSES", (7.0, 7.0))
    monkeypatch.setattr("time.sleep", lambda seconds: seconds == 7.0 and (tmp_path / "late").rename(out / "train"))
    real = commit.commit

    def commit_early(output: Store, *arguments: Any) -> None:
        (out / "train").rename(tmp_path / "late")
        real(output, *arguments)

    monkeypatch.setattr("preprocessing.job.run.commit", commit_early)
    assert preprocess(raw, out).images_in == 54
    assert Dataset.open(str(out)).split("train").count == 42


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b'{"plan": "\xff"}'])
def test_a_damaged_record_is_not_taken(tmp_path: Path, damage: bytes) -> None:
    shard = Shard("train", 0, 1, b"")
    open_store(tmp_path).write(shard.record_name("mark"), damage)
    assert read_record(open_store(tmp_path), "mark", shard) is None


def test_records_of_other_files_are_not_taken(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a version with another rule for the size of files left the job unfinished."""
    import preprocessing.job.shards as shards

    whole = preprocess(raw, tmp_path / "whole")
    monkeypatch.setattr(shards, "default_rows", lambda *_: 16)
    real = Store.write
    monkeypatch.setattr(
        Store, "write", lambda self, path, data: real(self, path, data) if path != "labels.json" else 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        preprocess(raw, tmp_path / "out")
    monkeypatch.undo()
    assert preprocess(raw, tmp_path / "out") == whole


def test_an_unfinished_dataset_of_other_settings_is_in_the_way(raw: Path, tmp_path: Path) -> None:
    preprocess(raw, tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()
    (tmp_path / "out" / "_work" / "other").mkdir(parents=True)
    with pytest.raises(InputError, match="holds an unfinished dataset of another source or other settings"):
        preprocess(raw, tmp_path / "out", start=no_spark)
    preprocess(raw, tmp_path / "out", overwrite=True)
    assert Dataset.open(str(tmp_path / "out")).splits["train"].count == 42


def test_a_kill_while_the_old_dataset_is_deleted(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    preprocess(raw, out, rows_per_shard=5, holdout=0.3)
    real = Store.delete_tree

    def killed(self: Store, path: str = "") -> None:
        if path == "val":
            raise KeyboardInterrupt
        real(self, path)

    monkeypatch.setattr(Store, "delete_tree", killed)
    with pytest.raises(KeyboardInterrupt):
        preprocess(raw, out, overwrite=True, rows_per_shard=20)
    monkeypatch.setattr(Store, "delete_tree", real)
    with pytest.raises(InputError, match="is not a dataset"):
        Dataset.open(str(out))
    preprocess(raw, out, overwrite=True, rows_per_shard=20)
    preprocess(raw, tmp_path / "fresh", rows_per_shard=20)
    files = [sorted(str(path.relative_to(root)) for path in root.rglob("*.*")) for root in (out, tmp_path / "fresh")]
    assert files[0] == files[1]


def test_the_manifest_of_another_program(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "a web page"}')
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match=r"manifest\.json is not a dataset's"):
        preprocess(raw, tmp_path, start=no_spark, overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_somebody_elses_is_left_alone(raw: Path, tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="is not empty and holds no dataset"):
        preprocess(raw, tmp_path, start=no_spark, overwrite=overwrite)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_done_dataset_with_a_damaged_file_is_not_done(raw: Path, tmp_path: Path) -> None:
    preprocess(raw, tmp_path / "out")
    (tmp_path / "out" / "train" / "part-00000.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"part-00000\.parquet is missing or damaged: give --overwrite"):
        preprocess(raw, tmp_path / "out", start=no_spark)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        ([], "does not exist: give the folder"),
        ([""], "has no known layout, it is empty; expected ILSVRC2012_img_train"),
        (["other/x"], "has no known layout, it holds other/; expected"),
        (["train"], "train has no class folders"),
        (["train/n01440764"], "holds no images"),
        (["train/a", "val/b"], "val/b is not a class of train"),
    ],
)
def test_sources_that_are_none(tmp_path: Path, build: list[str], says: str) -> None:
    for name in build:
        (tmp_path / "raw" / name).mkdir(parents=True)
    with pytest.raises(InputError, match=says) as caught:
        preprocess(tmp_path / "raw", tmp_path / "out", start=no_spark)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 0}, "--size 0: give 1 to 4096 pixels"),
        ({"quality": 101}, "--quality 101: give 1 to 100"),
        ({"classes": 0}, "--classes 0: give 1 or more"),
        ({"classes": 4}, "--classes 4: the source has 3"),
        ({"classes": ("n01440764", "n9")}, "--classes: the source has no class 'n9'; it has n01440764"),
        ({"images_per_class": 0}, "--images-per-class 0: give 1 or more"),
        ({"holdout": -1}, "--holdout -1: give a fraction"),
        ({"holdout": 42}, "--holdout 42 takes 42 of 42 images"),
        ({"holdout": 0.001}, "--holdout 0.001 takes 0 of 42"),
        ({"rows_per_shard": 0}, "--rows-per-shard 0: give 1 or more"),
        ({"row_group_rows": 0}, "--rows-per-row-group 0: give 1 or more"),
        ({"row_group_rows": 2000, "size": 256}, "MiB a row group, more than 256: ask for 1364 or fewer"),
        ({"max_rejected": 1.5}, "--max-rejected 1.5: give a fraction"),
        ({"layout": "zip"}, "--layout zip: give one of tar, kaggle, folders"),
    ],
)
def test_values_out_of_range(raw: Path, tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        preprocess(raw, tmp_path / "out", start=no_spark, **options)
    assert not (tmp_path / "out").exists()


def test_output_inside_the_source(raw: Path) -> None:
    with pytest.raises(InputError, match=r"^--output .*/out is inside --source .*: give another --output$"):
        preprocess(raw, raw / "out", start=no_spark)


def test_a_source_inside_the_output(raw: Path) -> None:
    with pytest.raises(InputError, match=r"^--source .* is inside --output .*: give another --output$"):
        preprocess(raw, raw.parent, start=no_spark)


def test_an_output_that_is_the_source(raw: Path) -> None:
    with pytest.raises(InputError, match=r"^--output .* is --source: give another --output$"):
        preprocess(raw, raw, start=no_spark)


def test_the_small_files(made: Path) -> None:
    labels = json.loads((made / "labels.json").read_text())
    assert labels == [{"label": label, "class": name, "name": None} for label, name in enumerate(CLASSES)]
    assert pq.read_table(made / "rejected.parquet").num_rows == 0
    assert not (made / "_work").exists()
