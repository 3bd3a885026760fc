"""Blobs are whole or absent, names are checked, failures are one line."""

from __future__ import annotations

import ast
import errno
import os
import pickle
import re
import shutil
import threading
from pathlib import Path

import pytest
from pyarrow import fs as pafs

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.storage import Entry, Store, open_store
from preprocessing.common.stores.hdfs import HdfsStore
from preprocessing.common.stores.local import LocalStore
from preprocessing.common.stores.object_store import ObjectStore
from preprocessing.job.output import State, inspect


def test_listing_is_sorted_relative_and_without_temporaries(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for name in ("b.txt", "a/z.txt", "a/c/y.txt", ".hidden"):
        store.write(name, name.encode())
    (tmp_path / f".b.txt.{'0' * 32}.tmp").write_bytes(b"half")
    assert store.list() == [".hidden", "a/c/y.txt", "a/z.txt", "b.txt"]
    assert store.list("a") == ["a/c/y.txt", "a/z.txt"]
    assert store.entries("a", recursive=False) == [Entry("a/z.txt", 7)]
    assert store.folders() == ["a"]
    store.delete_tree("a")
    assert store.list() == [".hidden", "b.txt"]


def test_a_failed_write_leaves_the_old_blob_and_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    store.write("x", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"cannot write .*/x: No space left on device; free some space") as caught:
        store.write("x", b"new")
    assert type(caught.value) is StorageError
    assert store.read("x") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EROFS, "the disk is mounted read-only"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EIO, "the disk fails"),
        (errno.ESTALE, "mount it again"),
        (errno.EACCES, "check the permissions"),
        (errno.EINVAL, "check the disk"),
    ],
)
def test_each_failure_of_a_disk_has_its_own_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(Path, "touch", fail)
    for act in (lambda: open_store(tmp_path).write("x", b""), open_store(tmp_path / "new").check_writable):
        with pytest.raises(StorageError, match=rf"^cannot write .*: {os.strerror(number)}; .*{remedy}") as caught:
            act()
        assert type(caught.value) is StorageError
        assert "network;" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["local", "remote"])
def test_a_probe_whose_process_was_killed_is_a_temporary_file(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path) if kind == "local" else request.getfixturevalue(kind)

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        patch.setattr(Store, "delete", killed)
        with pytest.raises(KilledError):
            store.check_writable()
    assert store.level()[1]  # it is there
    assert store.list() == []
    assert inspect(store, "0" * 64, overwrite=False) is State.FRESH
    store.delete_temporaries("")
    assert store.level()[1] == []


def test_replacing_appears_only_at_the_end(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store.replacing("deep/file") as local:
        local.write_bytes(b"content")
        assert not store.exists("deep/file")
        assert store.list() == []
    assert store.read("deep/file") == b"content"
    with pytest.raises(FileNotFoundError), store.replacing("deep/file") as local:
        shutil.copy(local.parent / "absent", local)
    assert store.read("deep/file") == b"content"
    assert len(list((tmp_path / "deep").iterdir())) == 1


def test_create_has_one_winner(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    barrier = threading.Barrier(8)
    won: list[int] = []

    def contend(number: int) -> None:
        barrier.wait()
        if store.create("lock", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("lock") == str(won[0]).encode()
    assert len(list(tmp_path.iterdir())) == 1


def test_relative_paths_and_file_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("some folder").write("x", b"1")
    assert open_store(f"file://{tmp_path}/some%20folder").read("x") == b"1"
    assert open_store("some folder").uri == str(tmp_path / "some folder")
    assert open_store("some folder").local_path == tmp_path / "some folder"
    assert open_store(tmp_path).child("some folder").list() == ["x"]


def test_it_survives_pickling(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.write("x", b"1")
    assert pickle.loads(pickle.dumps(store)).read("x") == b"1"  # noqa: S301


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("", "empty"),
        ("ftp://host/x", "unknown scheme ftp://"),
        ("s3://", "names no bucket"),
        ("s3:///key", "no bucket"),
    ],
)
def test_bad_uris(uri: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        open_store(uri)


def test_a_bucket_uri_keeps_its_query() -> None:
    store = open_store("s3://bucket/folder?region=eu-west-1").child("inner")
    assert store.uri == "s3://bucket/folder/inner?region=eu-west-1"
    assert store.local_path is None
    assert pickle.loads(pickle.dumps(store)) == store  # noqa: S301


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a//b"])
def test_names_stay_inside(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="relative name"):
        open_store(tmp_path).write(name, b"")


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"cannot write .*file/x: .*choose another place") as caught:
        open_store(tmp_path / "file").write("x", b"")
    assert type(caught.value) is StorageError


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Store:
    """A bucket held in memory: all that `Store` does for what is not a local filesystem."""
    store = open_store("s3://bucket/folder")
    filesystem = pafs._MockFileSystem()
    filesystem.create_dir("bucket/folder", recursive=True)
    store._opened = filesystem, "bucket/folder"
    monkeypatch.setattr("preprocessing.common.stores.base.SETTLE_SECONDS", 0.0)
    return store


def test_an_object_store(remote: Store) -> None:
    remote.write("x", b"1")
    assert remote.read("x") == b"1"
    remote.write("y", b"me")
    with remote.replacing("z") as local:
        local.write_bytes(b"large")
    assert remote.read("z") == b"large"
    assert remote.list() == ["x", "y", "z"]
    remote.delete("x")
    assert not remote.exists("x")
    with pytest.raises(FileNotFoundError):
        remote.read("x")


def test_an_upload_is_staged_in_sparks_local_folder(
    remote: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path))
    with remote.replacing("z") as local:
        local.write_bytes(b"large")
        assert local.is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert remote.read("z") == b"large"


class KilledError(Exception):
    pass


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("runs", LocalStore),
        ("file:///runs", LocalStore),
        ("hdfs://host/runs", HdfsStore),
        ("viewfs://cluster/runs", HdfsStore),
        ("s3a://bucket/runs?region=eu-west-1", ObjectStore),
        ("gs://bucket/runs", ObjectStore),
    ],
)
def test_each_kind_of_storage_is_a_class(uri: str, kind: type[Store]) -> None:
    store = open_store(uri)
    for one in (store, store.child("a/b"), pickle.loads(pickle.dumps(store))):  # noqa: S301
        assert type(one) is kind
    assert store.is_local == (store.local_path is not None) == (kind is LocalStore)
    assert len(pickle.dumps(store)) < 300  # with every task of a job


QUERY = "endpoint_override=127.0.0.1%3A9000&scheme=http&region=us-east-1"


def test_a_path_is_described_without_the_settings_of_its_uri() -> None:
    store = open_store(f"s3://bucket/folder?{QUERY}")
    assert store.describe() == "s3://bucket/folder"
    assert store.describe("train/x y?.JPEG") == "s3://bucket/folder/train/x y%3F.JPEG"
    assert store.child("train").describe("x") == store.describe("train/x")
    assert open_store("/data").describe("100%/a?") == "/data/100%/a?"


@pytest.mark.parametrize(
    ("outer", "inner", "encloses"),
    [
        ("s3://bucket/raw", "s3://bucket/raw/out", True),
        (f"s3://bucket/raw?{QUERY}", f"s3://bucket/raw/out?{QUERY}", True),
        ("s3://bucket/raw?region=us-east-1", "s3a://bucket/raw", True),
        ("s3://bucket", "s3://bucket/out", True),
        ("gs://bucket/raw", "gcs://bucket/raw/out", True),
        ("gcs://bucket/raw", "gs://bucket/raw/out", True),
        (f"s3://bucket/raw?{QUERY}", f"s3://bucket/raw-256?{QUERY}", False),
        ("s3://bucket/raw", "s3://other/raw/out", False),
        ("s3://bucket/my%20images", "s3://bucket/my images/out", True),
        (f"s3://bucket/raw?{QUERY}", f"s3://bucket/raw?{QUERY.replace('9000', '9001')}", False),
        ("/", "/data", True),
        ("/data/raw", "/data", False),
    ],
)
def test_what_a_folder_encloses(outer: str, inner: str, encloses: bool) -> None:
    assert open_store(outer).encloses(open_store(inner)) is encloses


def test_nobody_glues_a_uri_and_a_name() -> None:
    """A URI may end in settings, and a name after those means nothing: `Store.describe` says where something is."""
    root = Path(__file__).parents[2]
    sources = [path for top in ("preprocessing", "lottery", "jobs") for path in (root / top).rglob("*.py")]
    glued = re.compile(r"\buri\)?\}'?/|\bplace\}/|\buri \+ ")
    assert glued.search('f"{store.uri}/{name}"')
    assert [str(path) for path in sources if glued.search(path.read_text())] == []


def names_a_uri(source: str) -> bool:
    """Whether a `.uri` is shown in an f-string; `!r` is for programmers."""
    shown = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FormattedValue)]
    inside = [part for node in shown if node.conversion != ord("r") for part in ast.walk(node.value)]
    return any(isinstance(part, ast.Attribute) and part.attr == "uri" for part in inside)


def test_no_message_names_a_uri() -> None:
    root = Path(__file__).parents[2]
    sources = [path for top in ("preprocessing", "lottery", "jobs") for path in (root / top).rglob("*.py")]
    assert names_a_uri('f"{shorten(store.uri)} is empty"')
    assert [str(path) for path in sources if names_a_uri(path.read_text())] == []
