"""Remote storage that is away for a while costs a job time, and nothing else."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preprocessing.common.errors import StorageError
from preprocessing.common.stores.local import LocalStore
from preprocessing.dataset.opening import Dataset
from preprocessing.job.plan import plan
from preprocessing.job.prepare import Request
from preprocessing.job.settings import Settings
from tests.preprocessing.pixel_files import grays, write_idx
from tests.preprocessing.raw_images import preprocess, write_folders
from tests.preprocessing.shard_files import cls_tar, write_shards

ACCESSES = (
    *("read", "open_input", "write", "create", "replacing", "delete", "delete_tree", "delete_temporaries"),
    *("size", "is_folder", "entries", "level", "check_writable"),
)
OUTAGE = 4  # accesses in a row that fail
SOURCES = ("folders", "tars", "idx")
# The outage begins at this part of all accesses of an undisturbed job.
PARTS = [number / 12 for number in range(12)]


class Remote:
    """Makes all folders remote ones, which refuse `OUTAGE` accesses in a row from number `first` on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, first: float) -> None:
        self.accesses = itertools.count()
        self.refused = 0
        self._first = first
        monkeypatch.setattr("preprocessing.common.retries.PATIENT_PAUSES", (0.0,) * (OUTAGE + 1))
        monkeypatch.setattr(LocalStore, "is_local", False)
        for name in ACCESSES:
            monkeypatch.setattr(LocalStore, name, self._refusing(getattr(LocalStore, name)))

    def _refusing(self, action: Callable[..., Any]) -> Callable[..., Any]:
        def access(*arguments: Any, **options: Any) -> Any:
            if self._first <= next(self.accesses) < self._first + OUTAGE:
                self.refused += 1
                raise StorageError("cannot do it: slow down; check the network") from OSError("503 SlowDown")
            return action(*arguments, **options)

        return access


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source whose listing suffices, one whose files tasks index, and one whose images they stage."""
    folder = tmp_path_factory.mktemp("sources")
    write_folders(folder / "folders", {"train": 3, "val": 1})
    write_shards(folder / "folders", folder / "tars", cls_tar, "{split}-{number}.tar")
    write_idx(folder / "idx", {"train": (grays(6), [0, 1] * 3), "t10k": (grays(2), [0, 1])})
    return folder


def files(dataset: Path) -> dict[str, bytes]:
    return {str(path.relative_to(dataset)): path.read_bytes() for path in dataset.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_job_outlasts_an_outage(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    output = tmp_path / "out"
    with monkeypatch.context() as patched:
        undisturbed = Remote(patched, first=float("inf"))
        preprocess(sources / kind, output, rows_per_shard=4)
    expected, total = files(output), next(undisturbed.accesses)
    assert total > 20
    for part in PARTS:
        shutil.rmtree(output)
        with monkeypatch.context() as patched:
            remote = Remote(patched, first=int(part * total))
            preprocess(sources / kind, output, rows_per_shard=4)
        assert remote.refused == OUTAGE, part
        assert files(output) == expected, part


@pytest.mark.parametrize("kind", SOURCES)
def test_a_plan_outlasts_an_outage(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    request = Request(str(sources / kind), str(tmp_path / "out"), Settings(size=32, row_group_rows=8))
    with monkeypatch.context() as patched:
        undisturbed = Remote(patched, first=float("inf"))
        plan(request)
    total = next(undisturbed.accesses)
    for part in PARTS[::3]:
        with monkeypatch.context() as patched:
            remote = Remote(patched, first=min(int(part * total), total - OUTAGE))
            plan(request)
        assert remote.refused == OUTAGE, part


def test_a_finished_job_outlasts_an_outage_too(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    preprocess(sources / "folders", tmp_path / "out")
    remote = Remote(monkeypatch, first=3)
    preprocess(sources / "folders", tmp_path / "out")
    assert "nothing to do" in capsys.readouterr().out
    assert remote.refused == OUTAGE


def test_whoever_opens_the_dataset_outlasts_an_outage(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = Remote(monkeypatch, first=0)
    assert Dataset.open(str(made)).size == 32
    assert remote.refused == OUTAGE


def test_an_outage_that_does_not_end_is_an_error_of_storage(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Remote(monkeypatch, first=0)
    monkeypatch.setattr("preprocessing.common.retries.PATIENT_PAUSES", (0.0,))
    with pytest.raises(StorageError, match="slow down") as caught:
        preprocess(sources / "folders", tmp_path / "out")
    assert type(caught.value) is StorageError
    assert caplog.messages == ["cannot do it: slow down; check the network; trying again"]


def test_a_local_disk_that_fails_is_not_waited_for(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Remote(monkeypatch, first=0)
    monkeypatch.setattr(LocalStore, "is_local", True)
    with pytest.raises(StorageError, match="slow down"):
        preprocess(sources / "folders", tmp_path / "out")
    assert remote.refused == 1
