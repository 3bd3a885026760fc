"""What is decided about HDFS, without one: addresses, time limits, who wins. test_real_hdfs.py has a real one."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hdfs_native
import pytest

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.retries import may_pass
from preprocessing.common.storage import open_store
from preprocessing.common.storage_errors import of_client
from preprocessing.common.stores import hdfs_connection
from preprocessing.common.stores.hdfs_connection import finish


class FakeClient:
    """Files in a dictionary, as hdfs-native's clients show them. It records the URLs and settings that it is given."""

    files: dict[str, bytes] = {}  # noqa: RUF012
    opened: list[tuple[str, dict[str, str]]] = []  # noqa: RUF012
    silent = False

    def __init__(self, url: str, settings: dict[str, str]) -> None:
        if ":" not in url.removeprefix("hdfs://"):
            raise RuntimeError('InvalidArgument("No NameNode hosts found")')
        FakeClient.opened.append((url, settings))
        self.inner = SimpleNamespace(create=lambda path, options: self.create_raw(path, options))

    def get_file_info(self, path: str) -> Any:
        if FakeClient.silent:
            time.sleep(3600)
        if path in self.files:
            return SimpleNamespace(path=path, isdir=False, length=len(self.files[path]))
        raise FileNotFoundError(path)

    def read(self, path: str) -> Any:
        return FakeReader((self.get_file_info(path)) and self.files[path])

    def create(self, path: str, options: Any) -> Any:
        return hdfs_native.FileWriter(self.create_raw(path, options))

    def create_raw(self, path: str, options: Any) -> Any:
        assert not options.overwrite
        FakeClient.files[path] = b""

        def write(data: bytes) -> None:
            FakeClient.files[path] += data

        def close() -> None:
            pass

        return SimpleNamespace(write=write, close=close)

    def list_status(self, path: str, recursive: bool) -> Iterator[Any]:
        for name in [name for name in self.files if name.startswith(f"{path}/")]:
            yield self.get_file_info(name)

    def rename(self, source: str, target: str, overwrite: bool) -> None:
        if target in self.files and not overwrite:
            raise FileExistsError(f"rename destination {target} already exists\n\tat org.apache")
        FakeClient.files[target] = FakeClient.files.pop(source)

    def delete(self, path: str, recursive: bool) -> bool:
        return FakeClient.files.pop(path, None) is not None


class FakeReader(bytes):
    def read_range(self, offset: int, length: int) -> bytes:
        assert offset + length <= len(self), "hdfs-native panics"
        return self[offset : offset + length]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeClient]]:
    monkeypatch.setattr(hdfs_connection, "Client", FakeClient)
    monkeypatch.setattr(FakeClient, "files", {})
    monkeypatch.setattr(FakeClient, "opened", [])
    monkeypatch.delenv("HADOOP_CONF_DIR", raising=False)
    monkeypatch.delenv("HADOOP_HOME", raising=False)
    monkeypatch.setenv("HADOOP_USER_NAME", "")  # so that it is put back
    monkeypatch.delenv("HADOOP_USER_NAME")
    hdfs_connection.connection.cache_clear()
    yield FakeClient
    hdfs_connection.connection.cache_clear()


@pytest.mark.parametrize(
    ("uri", "default", "url"),
    [
        ("hdfs://host:9000/x", None, "hdfs://host:9000"),
        ("hdfs://host/x", None, "hdfs://host:8020"),
        ("hdfs:///x", "hdfs://master", "hdfs://master:8020"),
        ("hdfs:///x", "hdfs://master:9000/", "hdfs://master:9000"),
    ],
)
def test_an_address_may_leave_out_what_the_configuration_or_hadoop_says(
    fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uri: str, default: str | None, url: str
) -> None:
    if default:
        monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
        (tmp_path / "core-site.xml").write_text(
            f"<configuration><property><name>fs.defaultFS</name><value>{default}</value></property></configuration>"
        )
    open_store(uri).write("a", b"1")
    assert {opened for opened, _ in fake.opened} == {url}
    assert list(fake.files) == ["/x/a"]


@pytest.mark.parametrize("found", ["missing", "s3a://bucket"])
def test_an_address_that_means_nothing_is_refused(
    fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: str
) -> None:
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    if found != "missing":
        (tmp_path / "core-site.xml").write_text(
            f"<configuration><property><name>fs.defaultFS</name><value>{found}</value></property></configuration>"
        )
    says = f"^cannot reach hdfs:///x: it names no host, and fs.defaultFS in {tmp_path}/core-site.xml is {found}; check"
    with pytest.raises(InputError, match=says) as caught:
        open_store("hdfs:///x").write("a", b"1")
    assert type(caught.value) is InputError


@pytest.mark.parametrize(("given", "who"), [(None, "submitter"), ("other", "other")])
def test_executors_are_whoever_submitted_the_job(
    fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch, given: str | None, who: str
) -> None:
    """YARN without Kerberos may run containers as `yarn`, whose files the driver could not replace."""
    monkeypatch.setenv("SPARK_USER", "submitter")
    if given:
        monkeypatch.setenv("HADOOP_USER_NAME", given)
    open_store("hdfs://host:9000/x").write("a", b"1")
    assert os.environ["HADOOP_USER_NAME"] == who


def test_a_name_node_that_does_not_answer_is_given_up_and_connected_to_anew(
    fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdfs_connection, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(fake, "silent", True)
    store, started = open_store("hdfs://host:9000/x"), time.monotonic()
    with pytest.raises(StorageError, match=r"^cannot look at hdfs://host:9000/x/a: no answer in 0 s; check") as caught:
        store.exists("a")
    assert type(caught.value) is StorageError
    assert time.monotonic() - started < 100
    assert may_pass(caught.value)
    monkeypatch.setattr(fake, "silent", False)
    assert not store.exists("a")
    assert len(fake.opened) == 2
    assert fake.opened[0][1]["dfs.client.failover.random.order.host:9000"] == "true"


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


def test_a_forked_process_is_told_and_does_not_hang(fake: type[FakeClient]) -> None:
    store = open_store("hdfs://host:9000/x")
    store.write("a", b"1")
    child = os.fork()
    if not child:
        try:
            store.read("a")
        except RuntimeError as error:
            os._exit(0 if "before this process was forked" in str(error) else 2)
        os._exit(1)
    for _ in range(100):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.1)
    else:
        os.kill(child, 9)
    assert status == 0


def test_a_panic_of_the_client_is_an_error() -> None:
    class PanicException(BaseException):
        pass

    def panic() -> None:
        raise PanicException("called `Option::unwrap()`")

    with pytest.raises(OSError, match="unwrap") as caught:
        finish(5.0, panic)
    assert of_client(caught.value)
