"""Which NameNode is asked, as whom and for how long, by a stand-in. test_real_hdfs.py has a real HDFS."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.retries import may_pass
from preprocessing.common.storage import open_store
from preprocessing.common.storage_errors import of_client
from preprocessing.common.stores import hdfs_connection
from preprocessing.common.stores.hdfs_connection import finish
from tests.preprocessing.fake_hdfs import FakeClient


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
