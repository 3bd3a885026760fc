"""An upload to a bucket that is cut off commits nothing: not when it fails, and not when its process ends."""

from __future__ import annotations

import gc
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from preprocessing.common.errors import StorageError
from preprocessing.common.storage import Store, open_store
from tests.lottery.s3_proxy import CREDENTIALS
from tests.preprocessing.bucket_process import BEGIN_SECONDS, bucket_process

ROOT = Path(__file__).parents[2]
PART = 16 << 20  # more than Arrow holds back
ENDS = f"""
import shutil
from preprocessing.common.storage import open_store

def fail(source, target, length):
    target.write(bytes({PART}))
    raise ZeroDivisionError

shutil.copyfileobj = fail
with open_store("URI").replacing("x") as local:
    local.touch()
"""


@pytest.fixture(scope="module")
def uri() -> Iterator[str]:
    with bucket_process() as started:
        yield started


@pytest.fixture
def store(uri: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    folder, query = uri.split("?")
    return open_store(f"{folder}/{uuid.uuid4().hex}?{query}")


@pytest.mark.parametrize("first", [1000, PART])
@pytest.mark.parametrize(("raised", "seen"), [(OSError, StorageError), (KeyboardInterrupt, KeyboardInterrupt)])
def test_a_large_file_that_is_cut_off(
    store: Store, monkeypatch: pytest.MonkeyPatch, first: int, raised: type[BaseException], seen: type[BaseException]
) -> None:
    def fail(source: BinaryIO, target: Any, length: int) -> None:
        target.write(source.read(first))
        raise raised

    def upload() -> None:
        with store.replacing("x") as local:
            local.write_bytes(bytes(2 * PART))

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    assert _raised(upload) is seen
    assert not store.exists("x")


def test_an_interrupt_while_an_upload_begins(store: Store) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    store.exists("x")  # connects
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, BEGIN_SECONDS / 2)
    try:
        assert _raised(lambda: store.write("x", b"data")) is KeyboardInterrupt
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not store.exists("x")


def test_a_process_that_ends_after_a_failed_upload(store: Store) -> None:
    command = [sys.executable, "-c", ENDS.replace("URI", store.uri)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.rstrip().endswith("ZeroDivisionError")
    assert not store.exists("x")


def test_what_is_uploaded_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError), store.replacing("x") as local:
            local.touch()
    with store.replacing("x") as local:
        local.write_bytes(b"whole")
    store.write("y", b"small")
    assert (store.read("x"), store.read("y"), store.list()) == (b"whole", b"small", ["x", "y"])


def _raised(action: Callable[[], None]) -> type[BaseException] | None:
    """What kind of error the action raised. The error itself is gone, and with it the frames that hold a stream."""
    try:
        action()
    except BaseException as error:
        return type(error)
    finally:
        gc.collect()
    return None
