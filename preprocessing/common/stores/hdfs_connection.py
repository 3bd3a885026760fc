"""Calls to HDFS that always end: hdfs-native waits for ever for a NameNode that neither answers nor hangs up."""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import os
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from hdfs_native import Client, FileStatus

from preprocessing.common.stores.hdfs_errors import explained

T = TypeVar("T")

ANSWER_SECONDS = 30.0  # for what the NameNode answers; callers try again
TRANSFER_SECONDS = 180.0  # for some megabytes; hdfs-native itself gives up on each silent DataNode after 60 s
_PORT = 8020  # Hadoop's default
_LISTED_AT_ONCE = 1000  # what a NameNode lists in one answer
# Attempts in about 7 s while connections are refused: all at one NameNode, or in turn at two.
_ATTEMPTS, _ATTEMPTS_OF_TWO = "3", "6"

_lock = threading.Lock()
_process: int | None = None  # that uses HDFS


class Connection:
    """Connects to the HDFS at a URL on first use. Any thread can use it; it does not survive a fork."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Client | None = None
        self._deletions: dict[str, concurrent.futures.Future[bool]] = {}  # that have not been answered

    def open(self) -> Client:
        """Reads Hadoop's configuration; connects to nothing yet. `OSError` if URL and configuration do not fit."""
        _check_process()
        with _lock:
            if self._client is None:
                try:
                    self._client = _client(self._url)
                except Exception as error:
                    raise explained(error, 0.0) from error
            return self._client

    def call(self, action: Callable[[Client], T]) -> T:
        """The NameNode's answer. `OSError` if there is none in 30 s, as for every failure: see `hdfs_errors`."""
        client = self.open()
        try:
            return finish(ANSWER_SECONDS, action, client)
        except OSError as error:
            if isinstance(error.__cause__, concurrent.futures.TimeoutError):
                self._retire(client)
            raise

    def delete(self, name: str, recursive: bool) -> bool:
        """Deletes a file or folder; False if there is none. `OSError` if there is no answer in 30 s.

        If it is tried again then, it waits for the answer to the first request, and makes no other: that one may still
        be carried out, and would delete what has been written since.
        """
        client = self.open()
        with _lock:
            deletion = self._deletions.get(name)
            if deletion is None or deletion.done():
                deletion = self._deletions[name] = _start(client.delete, name, recursive)
        try:
            return _result(deletion, ANSWER_SECONDS)
        except OSError:
            if not deletion.done():
                self._retire(client)
            raise
        finally:
            with _lock:
                if deletion.done() and self._deletions.get(name) is deletion:
                    del self._deletions[name]

    def entries(self, folder: str, recursive: bool) -> list[FileStatus]:
        """The files and folders in a folder that exists."""
        listing = self.open().list_status(folder, recursive)
        found: list[FileStatus] = []
        while part := self.call(lambda _: list(itertools.islice(listing, _LISTED_AT_ONCE))):
            found += part  # by parts, as the time for all depends on their number
        return found

    def _retire(self, client: Client) -> None:
        """Has the next call connect anew: it may be the connection that is dead, or one NameNode of two."""
        with _lock:
            if self._client is client:
                self._client = None


@functools.cache
def connection(url: str) -> Connection:
    """The process's one connection to that HDFS, since each has threads."""
    return Connection(url)


def finish(seconds: float, action: Callable[..., T], *arguments: object) -> T:
    """The result of the function, or an `OSError` that explains why there is none, after `seconds` at most.

    It runs in a thread of its own. One that hangs is left behind, and its connection's four with it, until the NameNode
    answers or hangs up. While it is frozen each caller leaves such threads behind, twice a minute at most.
    They keep no process from ending.
    """
    return _result(_start(action, *arguments), seconds)


def _start(action: Callable[..., T], *arguments: object) -> concurrent.futures.Future[T]:
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()

    def work() -> None:
        try:
            outcome.set_result(action(*arguments))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=work, name="hdfs", daemon=True).start()
    return outcome


def _result(outcome: concurrent.futures.Future[T], seconds: float) -> T:
    try:
        error = outcome.exception(seconds)
    except concurrent.futures.TimeoutError as late:
        raise explained(late, seconds) from late
    if error is not None:  # which, as a panic of Rust, need be no `Exception`
        raise explained(error, seconds) from error
    return outcome.result()


def _check_process() -> None:
    global _process
    _process = _process or os.getpid()
    if _process != os.getpid():
        raise RuntimeError("HDFS was in use before this process was forked, which its client does not survive")


def _client(url: str) -> Client:
    os.environ.setdefault("TOKIO_WORKER_THREADS", "4")  # else a client starts a thread per core
    if "SPARK_USER" in os.environ:  # who submitted the job: YARN may run its containers as a user of its own
        os.environ.setdefault("HADOOP_USER_NAME", os.environ["SPARK_USER"])
    if not urlsplit(url).netloc:
        url = _default(url)
    host, has_port = urlsplit(url).netloc, urlsplit(url).port is not None
    settings = {
        "dfs.client.failover.max.attempts": _ATTEMPTS if has_port else _ATTEMPTS_OF_TWO,
        # A client that comes after one that got no answer must not begin with the same NameNode again.
        f"dfs.client.failover.random.order.{host}": "true",
    }
    try:
        return Client(url, settings)
    except RuntimeError as error:
        if has_port or not url.startswith("hdfs:") or "No NameNode hosts found" not in str(error):
            raise
    # The host is no name service of the configuration, but a NameNode.
    return Client(f"{url}:{_PORT}", {**settings, "dfs.client.failover.max.attempts": _ATTEMPTS})


def _default(url: str) -> str:
    """The URL that `hdfs://` or `viewfs://` without a host stands for, from core-site.xml."""
    scheme, file, found = urlsplit(url).scheme, _configuration() / "core-site.xml", None
    if file.is_file():
        properties = ElementTree.parse(file).getroot().iter("property")
        found = {entry.findtext("name"): entry.findtext("value") for entry in properties}.get("fs.defaultFS")
    default = urlsplit((found or "").strip())
    if default.scheme != scheme or not default.netloc:
        raise ValueError(f"it names no host, and fs.defaultFS in {file} is {found or 'missing'}")
    return f"{scheme}://{default.netloc}"


def _configuration() -> Path:
    """Hadoop's configuration folder, where hdfs-native looks for it."""
    own = os.environ.get("HADOOP_CONF_DIR")
    return Path(own or Path(os.environ.get("HADOOP_HOME", ""), "etc/hadoop"))
