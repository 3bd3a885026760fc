"""Blobs on HDFS when answers are lost or late, and who wins, by a stand-in. test_real_hdfs.py has a real HDFS."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from preprocessing.common.errors import StorageError
from preprocessing.common.retries import may_pass
from preprocessing.common.storage import open_store
from preprocessing.common.stores import hdfs_connection
from tests.preprocessing.fake_hdfs import FakeClient


def test_what_was_put_aside_by_an_earlier_version_is_the_blob(fake: type[FakeClient]) -> None:
    store = open_store("hdfs://host:9000/x")
    fake.files["/x/state.replaced"] = b"old"
    assert (store.read("state"), store.size("state"), store.exists("state")) == (b"old", 3, True)
    assert not store.create("state", b"a rival's")
    store.write("state", b"newer")
    assert (store.read("state"), store.size("state")) == (b"newer", 5)
    store.delete("state")
    assert fake.files == {}
    with pytest.raises(FileNotFoundError, match=r"/x/state$"):
        store.read("state")


def test_a_rival_that_comes_first_wins(fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the rename."""
    store = open_store("hdfs://host:9000/x")
    create = fake.create_raw

    def overtaken(self: FakeClient, path: str, options: Any) -> Any:
        fake.files["/x/claim"] = b"the rival's"
        return create(self, path, options)

    monkeypatch.setattr(fake, "create_raw", overtaken)
    assert not store.create("claim", b"mine")
    assert fake.files == {"/x/claim": b"the rival's"}


def twice(request: Any) -> Any:
    """The request as hdfs-native makes it if the answer to the first is lost."""

    def asked_again(*arguments: Any) -> Any:
        request(*arguments)
        return request(*arguments)

    return asked_again


def test_a_rename_whose_answer_is_lost_can_be_tried_again(
    fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second request finds no temporary file, and that is not a missing file, which nobody would try again."""
    store = open_store("hdfs://host:9000/x")

    def rename(self: FakeClient, source: str, target: str, overwrite: bool) -> None:
        if source not in fake.files:
            raise FileNotFoundError(f"rename source {source} is not found.")
        fake.files[target] = fake.files.pop(source)

    monkeypatch.setattr(fake, "rename", twice(rename))
    with pytest.raises(StorageError, match=r"^cannot write hdfs://host:9000/x/a: its temporary file is gone; run") as e:
        store.write("a", b"new")
    assert type(e.value) is StorageError
    assert may_pass(e.value)
    assert store.create("claim", b"mine")
    assert not store.create("claim", b"another's")
    assert fake.files == {"/x/a": b"new", "/x/claim": b"mine"}


def test_a_file_whose_making_is_asked_for_twice_is_nobody_elses(
    fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDFS says that it exists, of the temporary file: `create` has not lost to anybody."""
    create, answers_lost = fake.create_raw, [True]

    def creating(self: FakeClient, path: str, options: Any) -> Any:
        if answers_lost and answers_lost.pop():
            create(self, path, options)
            raise FileExistsError(f"Failed to CREATE_FILE {path}: this file lease is currently owned by this client")
        return create(self, path, options)

    monkeypatch.setattr(fake, "create_raw", creating)
    assert open_store("hdfs://host:9000/x").create("claim", b"mine")
    assert fake.files == {"/x/claim": b"mine"}


@pytest.mark.parametrize("deleted", [False, True])
def test_a_rename_that_comes_late_changes_nothing(
    fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch, deleted: bool
) -> None:
    """It got no answer, its temporary file could not be deleted, and the name has changed since."""
    store, rename = open_store("hdfs://host:9000/x"), fake.rename
    goes_on, done = threading.Event(), threading.Event()

    def late(self: FakeClient, source: str, target: str, overwrite: bool) -> None:
        goes_on.wait(60)
        try:
            rename(self, source, target, overwrite)
        finally:
            done.set()

    def refuse(self: FakeClient, path: str, recursive: bool) -> bool:
        raise OSError("Connection reset by peer (os error 104)")

    with monkeypatch.context() as patch:
        patch.setattr(hdfs_connection, "ANSWER_SECONDS", 0.2)
        patch.setattr(fake, "rename", late)
        patch.setattr(fake, "delete", refuse)
        with pytest.raises(StorageError, match="no answer"):
            store.write("a", b"old")
    assert len(fake.files) == 1
    store.delete("a") if deleted else store.write("a", b"new")
    goes_on.set()
    assert done.wait(60)
    assert fake.files == ({} if deleted else {"/x/a": b"new"})


@pytest.mark.parametrize("folder", [False, True])
def test_a_deletion_that_comes_late_deletes_nothing_that_was_written_since(
    fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch, folder: bool
) -> None:
    """It got no answer. Tried again, it is not done before the first request has been answered."""
    store, delete, goes_on, requests = open_store("hdfs://host:9000/x"), fake.delete, threading.Event(), []
    fake.files["/x/a"] = b"old"
    monkeypatch.setattr(fake, "get_file_info", lambda self, path: SimpleNamespace(path=path, isdir=True))

    def late(self: FakeClient, path: str, recursive: bool) -> bool:
        if path == "/x/a":
            requests.append(path)
            goes_on.wait(60)
        return delete(self, path, recursive)

    def attempt() -> None:
        store.delete_tree("a") if folder else store.delete("a")

    monkeypatch.setattr(fake, "delete", late)
    with monkeypatch.context() as patch:
        patch.setattr(hdfs_connection, "ANSWER_SECONDS", 0.2)
        for _ in range(3):
            with pytest.raises(StorageError, match="^cannot delete hdfs://host:9000/x/a: no answer") as caught:
                attempt()
            assert type(caught.value) is StorageError
            assert may_pass(caught.value)
    assert requests == ["/x/a"]
    goes_on.set()
    attempt()
    assert fake.files == {}
    fake.files["/x/a"] = b"new"
    attempt()
    assert fake.files == {}  # by a request of its own


def test_what_an_earlier_version_put_aside_does_not_come_back(
    fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it would if it could not be deleted, and what replaced it could."""
    store, delete = open_store("hdfs://host:9000/x"), fake.delete
    fake.files.update({"/x/state.replaced": b"old", "/x/state": b"new"})

    def refuse_once(self: FakeClient, path: str, recursive: bool) -> bool:
        monkeypatch.setattr(fake, "delete", delete)
        raise OSError("Connection reset by peer (os error 104)")

    monkeypatch.setattr(fake, "delete", refuse_once)
    with pytest.raises(StorageError, match="^cannot delete hdfs://host:9000/x/state: Connection reset by peer"):
        store.delete("state")
    assert store.read("state") == b"new"
    store.delete("state")
    assert fake.files == {}


@pytest.mark.parametrize("broken", ["rename", "close"])
def test_a_failed_write_leaves_the_old_blob_and_no_temporary(
    fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    store = open_store("hdfs://host:9000/x")
    store.write("a", b"old")

    def fail(*_: object) -> None:
        raise OSError("Connection reset by peer (os error 104)")

    if broken == "rename":
        monkeypatch.setattr(fake, "rename", fail)
    else:
        create = fake.create_raw

        def failing(self: FakeClient, path: str, options: Any) -> Any:
            return SimpleNamespace(write=(create(self, path, options)).write, close=fail)

        monkeypatch.setattr(fake, "create_raw", failing)
    with pytest.raises(StorageError, match=r"^cannot write hdfs://host:9000/x/a: Connection reset by peer; check"):
        store.write("a", b"new")
    assert fake.files == {"/x/a": b"old"}


def test_a_writer_that_failed_is_not_closed_when_it_is_garbage(
    fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That would ask the NameNode, with no limit of time, in whichever thread collects garbage."""
    create, closed = fake.create_raw, []

    def failing(self: FakeClient, path: str, options: Any) -> Any:
        def fail(_: bytes) -> None:
            raise OSError("Connection reset by peer (os error 104)")

        create(self, path, options)
        return SimpleNamespace(write=fail, close=lambda: closed.append(path))

    monkeypatch.setattr(fake, "create_raw", failing)
    with pytest.raises(StorageError, match="reset by peer"):
        open_store("hdfs://host:9000/x").write("a", b"new")
    gc.collect()
    assert closed == []


def test_a_folder_that_changes_while_it_is_listed_is_listed_again(
    fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.files.update({f"/x/{number}": b"1" for number in range(2500)})
    real, is_file, listings = fake.list_status, fake.get_file_info, [0]

    def look(self: FakeClient, path: str) -> Any:
        return SimpleNamespace(path=path, isdir=True) if path == "/x" else is_file(self, path)

    def changing(self: FakeClient, path: str, recursive: bool) -> Iterator[Any]:
        listings[0] += 1
        for number, status in enumerate(real(self, path, recursive)):
            if listings[0] == 1 and number == 1500:
                raise FileNotFoundError("File /x/deleted does not exist.")
            yield status

    monkeypatch.setattr(fake, "get_file_info", look)
    monkeypatch.setattr(fake, "list_status", changing)
    assert len(open_store("hdfs://host:9000/x").list()) == 2500
    assert listings == [2]
