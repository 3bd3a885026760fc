"""Calls of HDFS that always end: hdfs-native waits for ever for a NameNode that neither answers nor hangs up."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from hdfs_native import AsyncClient, Client, FileStatus

from preprocessing.common.stores.hdfs_errors import explained

T = TypeVar("T")

ANSWER_SECONDS = 30.0  # for what the NameNode answers; callers try again
TRANSFER_SECONDS = 180.0  # for some megabytes; hdfs-native itself gives up on each silent DataNode after 60 s
_PORT = 8020  # Hadoop's default
_LISTED_AT_ONCE = 1000  # what a NameNode lists in one answer
# Attempts in about 7 s while connections are refused: all at one NameNode, or in turn at two.
_ATTEMPTS, _ATTEMPTS_OF_TWO = "3", "6"

_lock = threading.Lock()
_loop: tuple[int, asyncio.AbstractEventLoop] | None = None  # with the id of its process


class Connection:
    """Connects to the HDFS at a URL on first use. Any thread can use it; it does not survive a fork."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._clients: tuple[AsyncClient, Client] | None = None
        self._retired: list[tuple[AsyncClient, Client]] = []

    def open(self) -> tuple[AsyncClient, Client]:
        """Reads Hadoop's configuration; connects to nothing yet. `OSError` if URL and configuration do not fit."""
        with _lock:
            if self._clients is None:
                try:
                    self._clients = _clients(self._url)
                except Exception as error:
                    raise explained(error, 0.0) from error
            return self._clients

    def call(self, action: Callable[[AsyncClient], Awaitable[T]]) -> T:
        """What the NameNode answers. `OSError` after 30 s without, as for every failure: see `hdfs_errors`."""
        clients = self.open()
        return self._finish(clients, action, clients[0])

    def entries(self, folder: str, recursive: bool) -> list[FileStatus]:
        """The files and folders in a folder that exists."""
        clients = self.open()
        # The asynchronous client takes 60 times as long for an entry.
        listing = clients[1].list_status(folder, recursive)
        found: list[FileStatus] = []
        while part := self._finish(clients, _in_thread, lambda: list(itertools.islice(listing, _LISTED_AT_ONCE))):
            found += part  # by parts, as the time for all depends on their number
        return found

    def _finish(self, clients: tuple[AsyncClient, Client], action: Callable[..., Awaitable[T]], argument: object) -> T:
        try:
            return finish(ANSWER_SECONDS, action, argument)
        except OSError as error:
            if isinstance(error.__cause__, TimeoutError | asyncio.TimeoutError):
                self._retire(clients)
            raise

    def _retire(self, clients: tuple[AsyncClient, Client]) -> None:
        """Has the next call connect anew: it may be the connection that is dead, or one NameNode of two."""
        with _lock:
            if self._clients is clients:
                self._clients = None
                self._retired.append(clients)  # never destroyed: Rust forbids that where a late call holds them last


@functools.cache
def connection(url: str) -> Connection:
    """The process's one connection to that HDFS, since each has threads."""
    return Connection(url)


def finish(seconds: float, action: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """The result of an asynchronous call; an `OSError` that explains why there is none, after `seconds` at the most."""

    async def bounded() -> T:
        return await asyncio.wait_for(action(*arguments), seconds)

    waiting = asyncio.run_coroutine_threadsafe(bounded(), _event_loop())
    try:
        return waiting.result()
    except Exception as error:
        raise explained(error, seconds) from error
    finally:
        waiting.cancel()  # if a signal's exception came between


def _event_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="hdfs", daemon=True).start()
            _loop = os.getpid(), loop
    if _loop[0] != os.getpid():
        raise RuntimeError("HDFS was in use before this process was forked, which its client does not survive")
    return _loop[1]


async def _in_thread(function: Callable[[], T]) -> T:
    """What a blocking function returns; it keeps no process from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(act: Callable[[Any], None], value: object) -> None:
        if not done.done():  # not given up yet
            act(value)

    def work() -> None:
        try:
            loop.call_soon_threadsafe(settle, done.set_result, function())
        except Exception as error:
            loop.call_soon_threadsafe(settle, done.set_exception, error)

    threading.Thread(target=work, name="hdfs-listing", daemon=True).start()
    return await done


def _clients(url: str) -> tuple[AsyncClient, Client]:
    os.environ.setdefault("TOKIO_WORKER_THREADS", "4")  # else each client starts a thread per core
    if not urlsplit(url).netloc:
        url = _default(url)
    host, has_port = urlsplit(url).netloc, urlsplit(url).port is not None
    settings = {
        "dfs.client.failover.max.attempts": _ATTEMPTS if has_port else _ATTEMPTS_OF_TWO,
        # A client that comes after one that got no answer must not begin with the same NameNode again.
        f"dfs.client.failover.random.order.{host}": "true",
    }
    try:
        return AsyncClient(url, settings), Client(url, settings)
    except RuntimeError as error:
        if has_port or not url.startswith("hdfs:") or "No NameNode hosts found" not in str(error):
            raise
    # The host is no name service of the configuration, but a NameNode.
    url, settings = f"{url}:{_PORT}", {**settings, "dfs.client.failover.max.attempts": _ATTEMPTS}
    return AsyncClient(url, settings), Client(url, settings)


def _default(url: str) -> str:
    """What `hdfs://` or `viewfs://` without a host stands for: core-site.xml says it."""
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
