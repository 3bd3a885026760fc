"""Uploads are staged where there is room: not in /tmp, which may be memory."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from preprocessing.common.stores.staging import staging_folder


def test_the_emptiest_of_sparks_folders_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = {str(tmp_path / name): size for name, size in (("a", 1), ("b", 3), ("c", 2))}
    for folder in free:
        Path(folder).mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[folder]))
    assert staging_folder({"SPARK_LOCAL_DIRS": ",".join(free)}) == str(tmp_path / "b")


def test_folders_that_cannot_be_used_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lost = f"{tmp_path}/gone,{tmp_path}/file,relative,"
    assert staging_folder({"SPARK_LOCAL_DIRS": f"{lost},{tmp_path}"}) == str(tmp_path)
    assert staging_folder({"SPARK_LOCAL_DIRS": lost}) is None


def test_what_the_user_says_comes_first(tmp_path: Path) -> None:
    assert staging_folder({"SPARK_LOCAL_DIRS": str(tmp_path), "TMPDIR": "/somewhere"}) is None
    assert staging_folder({}) is None
