"""Storage that cannot do what a run needs is found before the run."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.storage import Store, open_store
from preprocessing.common.storage_check import check_usable


def test_a_disk_can_do_all_and_is_left_as_it_was(tmp_path: Path) -> None:
    check_usable(open_store(tmp_path).child("check"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("broken", "name", "kind", "says"),
    [
        (lambda *_: None, "write", FileNotFoundError, "No such file"),
        (lambda *_, **__: [], "list", InputError, "does not list what was written"),
        (lambda *_: True, "create", InputError, "lets two make the same file"),
        (lambda *_: None, "delete_tree", InputError, "does not delete a folder"),
    ],
)
def test_storage_that_does_something_else_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: Callable[..., object],
    name: str,
    kind: type[Exception],
    says: str,
) -> None:
    monkeypatch.setattr(Store, name, broken)
    with pytest.raises(kind, match=says) as caught:
        check_usable(open_store(tmp_path).child("check"))
    assert type(caught.value) is kind


@pytest.mark.parametrize("primitive", ["fsync", "replace", "remove"])
def test_storage_that_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, primitive: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    if primitive == "fsync":
        monkeypatch.setattr(os, "fsync", refuse)
    elif primitive == "replace":
        monkeypatch.setattr(Path, "replace", refuse)
    else:
        monkeypatch.setattr("preprocessing.common.stores.local.shutil.rmtree", refuse)
    with pytest.raises(
        StorageError, match=r"^cannot (write|delete) .*: Operation not supported; check the disk"
    ) as caught:
        check_usable(open_store(tmp_path).child("check"))
    assert type(caught.value) is StorageError
