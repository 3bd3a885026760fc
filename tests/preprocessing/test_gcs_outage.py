"""Google's client gives up an unreachable server soon enough for its callers to try again themselves."""

from __future__ import annotations

import subprocess
import sys

import pytest

_READ = """
import sys
from preprocessing.common.errors import StorageError
from preprocessing.common.storage import open_store
from preprocessing.common.stores import object_store

object_store.GCS_SECONDS = 1
try:
    open_store(sys.argv[1]).read("name")
except StorageError as error:
    print(error)
"""


@pytest.mark.parametrize("setting", ["", "&retry_limit_seconds=1"])
def test_a_server_that_cannot_be_reached_is_given_up_soon(setting: str) -> None:
    uri = f"gs://anonymous@bucket/folder?scheme=http&endpoint_override=127.0.0.1:1{setting}"
    command = [sys.executable, "-c", _READ, uri]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)  # by itself: 15 minutes
    assert done.stdout.startswith("cannot read gs://anonymous@bucket/folder/name: ")
