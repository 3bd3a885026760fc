"""S3 on loopback in a process of its own, which also answers a client that holds this process's interpreter lock.

Arrow's destructors do: from a server in the same process they would get no answer, and nothing would be committed.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.lottery.s3_proxy import s3_proxy

BEGIN_SECONDS = 1.0  # that the server takes to begin an upload


@contextlib.contextmanager
def bucket_process() -> Iterator[str]:
    """The URI of a folder in an empty bucket while the block runs."""
    command = [sys.executable, "-m", "tests.preprocessing.bucket_process"]
    root = Path(__file__).parents[2]
    server = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()


def _begin_slowly(request: BaseHTTPRequestHandler) -> None:
    if request.command == "POST" and request.path.partition("?")[2].startswith("uploads"):
        time.sleep(BEGIN_SECONDS)


def _serve() -> None:
    with contextlib.redirect_stdout(sys.stderr), s3_proxy() as proxy:  # moto prints that it starts
        proxy.deny = _begin_slowly
        print(proxy.uri("folder"), file=sys.__stdout__, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _serve()
