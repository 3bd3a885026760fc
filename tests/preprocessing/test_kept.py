"""A job that was killed while an earlier version ran it is continued by this one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import preprocessing.job.run as job
from preprocessing.dataset.opening import Dataset
from preprocessing.dataset.verify import verify
from tests.preprocessing.raw_images import preprocess

KEPT = Path(__file__).parents[1] / "kept" / "half-dataset"
# Of the dataset that the earlier version made of this source in one go.
HASH = "947d78a8da25956b8a24bd8c6ef26e98fef1f3515d724195901ff30d71a3be68"


def test_a_job_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(KEPT, tmp_path, dirs_exist_ok=True)
    real, converted = job.convert_shard, []

    def convert(shard: Any, **options: Any) -> Any:
        converted.append(shard.file_name)
        return real(shard, **options)

    monkeypatch.setattr(job, "convert_shard", convert)
    options = {"size": 8, "holdout": 1, "rows_per_shard": 2, "row_group_rows": 2}
    manifest = preprocess(tmp_path / "source", tmp_path / "output", **options)
    assert converted == ["train/part-00002.parquet", "train/part-00003.parquet", "val/part-00000.parquet"]
    assert manifest.hash == HASH
    assert verify(Dataset.open(str(tmp_path / "output"))) == 10
    for kept in (KEPT / "output").rglob("*.parquet"):
        assert (tmp_path / "output" / kept.relative_to(KEPT / "output")).read_bytes() == kept.read_bytes()
