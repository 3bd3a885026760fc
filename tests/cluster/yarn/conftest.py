"""A Hadoop, and a machine that submits to it; tests may kill node managers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.cluster.yarn.client import Client
from tests.hadoop.hdfs import Hdfs
from tests.hadoop.yarn import Yarn

NODES = 2


@pytest.fixture(scope="session")
def hdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hdfs]:
    folder = tmp_path_factory.mktemp("hadoop")
    started = Hdfs(folder / "hdfs")
    yield started
    started.stop()
    shutil.rmtree(folder)  # gigabytes, with what the node managers have unpacked


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory, hdfs: Hdfs) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("client")
    yield Client(folder, hdfs)
    shutil.rmtree(folder)  # gigabytes


@pytest.fixture(scope="session")
def _yarn(hdfs: Hdfs) -> Iterator[Yarn]:
    started = Yarn(hdfs, NODES)
    yield started
    started.stop()


@pytest.fixture
def yarn(_yarn: Yarn) -> Iterator[Yarn]:
    """YARN with all its nodes, on which nothing runs."""
    _yarn.start_lost_nodes()
    yield _yarn
    _yarn.end_applications()
