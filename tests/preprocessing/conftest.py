"""A source, its dataset, an HDFS and a bucket, made once for several tests; and a stand-in for an HDFS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from preprocessing.common.stores import hdfs_connection
from tests.hadoop.hdfs import Hdfs
from tests.lottery.s3_proxy import CREDENTIALS, Proxy, s3_proxy
from tests.preprocessing.fake_hdfs import FakeClient
from tests.preprocessing.raw_images import preprocess, write_folders
from tests.preprocessing.submitting import environment_with_java


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, 14 train and 4 val images of each, in class folders."""
    root = tmp_path_factory.mktemp("raw")
    write_folders(root, {"train": 14, "val": 4})
    return root


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """For spark-submit."""
    return environment_with_java()


@pytest.fixture(scope="session")
def made(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of `raw`: tensors of 32 pixels, row groups of 8."""
    output = tmp_path_factory.mktemp("made") / "dataset"
    preprocess(raw, output, rows_per_shard=20)
    return output


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    """An S3 server for all tests of a module."""
    with s3_proxy() as started:
        yield started


@pytest.fixture
def bucket(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """An empty bucket on it."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("preprocessing.common.stores.base.SETTLE_SECONDS", 0.0)
    proxy.clear()
    return proxy


@pytest.fixture(scope="session")
def hdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hdfs]:
    """For tests marked `yarn`, which leave it running and out of safe mode."""
    started = Hdfs(tmp_path_factory.mktemp("hadoop") / "hdfs")
    yield started
    started.stop()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeClient]]:
    """The class of a client that stands in for every HDFS, which is empty."""
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
