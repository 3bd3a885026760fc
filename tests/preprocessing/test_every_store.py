"""What every kind of store promises, on a local disk, on S3 and, in `make test-yarn`, on HDFS."""

from __future__ import annotations

import pickle
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from preprocessing.common.errors import StorageError
from preprocessing.common.storage import Entry, Store, open_store
from preprocessing.common.storage_check import check_usable
from preprocessing.common.stores import local_files
from preprocessing.job.output import State, inspect
from tests.lottery.s3_proxy import CREDENTIALS, Proxy, s3_proxy


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with s3_proxy() as started:
        yield started


@pytest.fixture(params=["local", "s3", pytest.param("hdfs", marks=pytest.mark.yarn)])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A folder that does not exist yet, of a name with all kinds of characters."""
    name = f"my {uuid.uuid4().hex[:8]} größe#1/100%/a?/50% [of] it?"
    if request.param == "local":
        return open_store(tmp_path).child(name)
    if request.param == "hdfs":
        return open_store(request.getfixturevalue("hdfs").uri).child(name)
    for key, value in CREDENTIALS.items():
        monkeypatch.setenv(key, value)
    return open_store(request.getfixturevalue("proxy").uri("folder")).child(name)


def test_a_blob_is_read_back(store: Store) -> None:
    store.write("a/b/c.bin", b"\x00\xffdata")
    assert store.read("a/b/c.bin") == b"\x00\xffdata"
    assert store.open_input("a/b/c.bin").read_at(2, 2) == b"da"
    store.write("a/b/c.bin", b"second")
    assert store.read("a/b/c.bin") == b"second"
    assert store.size("a/b/c.bin") == 6
    store.write("a/b/c.bin", b"")
    assert (store.read("a/b/c.bin"), store.size("a/b/c.bin")) == (b"", 0)
    assert store.child("a").read("b/c.bin") == b""
    assert open_store(store.uri).exists("a/b/c.bin")
    assert pickle.loads(pickle.dumps(store)).exists("a/b/c.bin")  # noqa: S301


def test_what_is_absent(store: Store) -> None:
    with pytest.raises(FileNotFoundError):
        store.read("nothing")
    with pytest.raises(FileNotFoundError):
        store.open_input("nothing")
    assert not store.exists("nothing")
    assert store.size("nothing") is None
    assert not store.is_folder()
    assert store.list() == store.list("absent") == store.folders("absent") == []
    store.delete("nothing")
    store.delete_tree("nothing")


def test_what_is_listed(store: Store) -> None:
    for name in ("b.txt", "a/z.txt", "a/c/y.txt", ".hidden"):
        store.write(name, name.encode())
    store.write(local_files.temporary("b.txt"), b"half")
    assert store.list() == [".hidden", "a/c/y.txt", "a/z.txt", "b.txt"]
    assert store.list("a") == ["a/c/y.txt", "a/z.txt"]
    assert store.entries("a", recursive=False) == [Entry("a/z.txt", 7)]
    assert store.level("a") == (["c"], [Entry("z.txt", 7)])
    assert store.folders() == ["a"]
    assert store.is_folder("a")
    assert not store.exists("a")
    assert not store.is_folder("b.txt")
    store.delete("b.txt")
    store.delete_tree("a")
    assert store.list() == [".hidden"]


def test_an_open_file_can_be_read_anywhere_by_many(store: Store) -> None:
    data = bytes(range(256)) * 80_000
    store.write("x", data)
    file = store.open_input("x")
    assert file.size() == len(data)
    assert file.seek(300) == 300
    assert file.read(4) == data[300:304]
    assert file.tell() == 304
    assert file.read() == data[304:]
    assert file.read_at(100, len(data) - 7) == data[-7:]
    with ThreadPoolExecutor(8) as pool:
        starts = [number * 1_000_003 for number in range(16)]
        assert list(pool.map(lambda start: bytes(file.read_at(5_000_000, start)), starts)) == [
            data[start : start + 5_000_000] for start in starts
        ]


def test_a_large_file_appears_whole_at_the_end(store: Store) -> None:
    for data in (bytes(range(256)) * 70_000, b"second"):  # several parts of an upload
        with store.replacing("deep/large") as local:
            local.write_bytes(data)
            assert store.size("deep/large") != len(data)
        assert store.read("deep/large") == data
    with pytest.raises(FileNotFoundError), store.replacing("deep/large") as local:
        shutil.copy(local.parent / "absent", local)
    assert store.read("deep/large") == b"second"
    assert store.level("deep")[1] == [Entry("large", 6)]  # no temporary is left


def test_create_has_one_winner(store: Store) -> None:
    assert store.create("first", b"me")
    assert not store.create("first", b"you")
    assert store.read("first") == b"me"
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: store.create("lock", str(number).encode()), range(8)))
    assert won.count(True) == 1
    assert store.read("lock") == str(won.index(True)).encode()
    assert len(store.level()[1]) == 2


def test_a_probe_whose_process_was_killed_is_a_temporary_file(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        patch.setattr(Store, "delete", killed)
        store.child("x").write("a", b"")
        with pytest.raises(ZeroDivisionError):
            store.check_writable()
    store.delete("x/a")
    store.delete_tree("x")
    assert store.level()[1]  # it is there
    assert store.list() == []
    assert inspect(store, "0" * 64, overwrite=False) is State.FRESH
    store.delete_temporaries("")
    assert store.level()[1] == []


def test_storage_can_do_what_a_run_needs(store: Store) -> None:
    store.check_writable()
    check_usable(store.child("check"))
    assert store.child("check").list() == []


def test_a_file_where_a_folder_should_be(store: Store, request: pytest.FixtureRequest) -> None:
    if "s3" in request.node.name:
        pytest.skip("a bucket has no folders")
    store.write("file", b"")
    store.write("folder/x", b"")
    for name in ("file/x", "folder"):
        with pytest.raises(
            StorageError, match=r"^cannot write .*; there is a file where a folder.* another place$"
        ) as e:
            store.write(name, b"")
        assert type(e.value) is StorageError
    assert store.list() == ["file", "folder/x"]
