"""A dataset that does not add up is never committed."""

from __future__ import annotations

from typing import Any

import pytest

from preprocessing.common.errors import InputError
from preprocessing.dataset.manifest import FileInfo
from preprocessing.job.commit import build_manifest
from preprocessing.job.rejections import count_reasons
from preprocessing.job.settings import Settings
from preprocessing.job.shards import RejectedImage, ShardRecord


def record(index: int, rows: int, bad_images: int, **changes: Any) -> ShardRecord:
    file = FileInfo(f"train/part-{index:05}.parquet", 1000, rows, 1, "00") if rows else None
    bad = [RejectedImage("train", f"a/{index}-{number}.JPEG", "empty", "") for number in range(bad_images)]
    values: dict[str, Any] = {
        "split": "train",
        "index": index,
        "digest": "",
        "images": rows + bad_images,
        "file": file,
        "class_counts": {0: rows},
        "pixel_sum": (10 * rows, 20 * rows, 0),
        "pixel_square_sum": (100 * rows, 800 * rows, 0),
        "rejected": bad,
    }
    return ShardRecord(**{**values, **changes})


def build(records: list[ShardRecord], planned: int) -> Any:
    return build_manifest(records, {"train": planned}, ["a", "b"], Settings(size=1), "f", {})


def test_records_are_added_up_in_order() -> None:
    manifest = build([record(1, 4, 1), record(0, 3, 2)], 10)
    assert (manifest.images_in, manifest.rejected, manifest.splits["train"].count) == (10, 3, 7)
    assert [file.name[-13:] for file in manifest.splits["train"].files] == ["00000.parquet", "00001.parquet"]
    assert manifest.splits["train"].class_counts == [7, 0]
    assert manifest.mean == (10, 20, 0)
    assert manifest.std == (0, 20, 0)


@pytest.mark.parametrize(
    ("records", "planned"),
    [
        ([record(0, 3, 2)], 6),
        ([record(0, 3, 2)], 4),
        ([record(0, 3, 2), record(1, 1, 0)], 5),
        ([record(0, 3, 2, class_counts={0: 2})], 5),
        ([record(0, 3, 2, images=4)], 5),
        ([record(0, 3, 2, rejected=[])], 5),
        ([], 5),
    ],
)
def test_what_does_not_add_up_is_a_bug_and_no_dataset(records: list[ShardRecord], planned: int) -> None:
    with pytest.raises(AssertionError, match="images in, but"):
        build(records, planned)


def test_a_train_split_without_a_row() -> None:
    with pytest.raises(InputError, match="no image of train could be decoded"):
        build([record(0, 0, 5)], 5)


def test_the_commonest_reasons_come_first() -> None:
    reasons = ["empty", "truncated", "truncated", "corrupt"]
    images = [RejectedImage("train", str(number), reason, "") for number, reason in enumerate(reasons)]
    assert count_reasons(images) == "truncated 2, corrupt 1, empty 1"
