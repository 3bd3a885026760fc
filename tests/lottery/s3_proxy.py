"""S3's protocol on loopback, through a proxy that answers 500, answers late, cuts connections and refuses writes."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUCKET = "bucket"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a server on loopback.

    `fault(number)` says what goes wrong with each GET or HEAD: "", "late", "500" or "cut". While `refusing` is set all
    other requests are answered 503, and counted in `refused`.
    """

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = port
        self.fault = lambda number: ""
        self.count = itertools.count()
        self.met: list[str] = []
        self.ranges: list[str] = []
        self.refusing = False
        self.refused: list[str] = []

    def uri(self, folder: str) -> str:
        """A folder of the bucket, for a Store."""
        return f"s3://{BUCKET}/{folder}?scheme=http&endpoint_override=127.0.0.1:{self.server_port}&region=us-east-1"


@contextlib.contextmanager
def s3_proxy() -> Iterator[Proxy]:
    """An empty bucket behind a proxy while the block runs."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        _, port = server.get_host_and_port()
        for method, path in (("POST", "/moto-api/reset"), ("PUT", f"/{BUCKET}")):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request(method, path)
            assert connection.getresponse().status == 200
            connection.close()
        proxy = Proxy(port)
        threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            proxy.server_close()
    finally:
        server.stop()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def _pass_on(self) -> None:
        reading = self.command in ("GET", "HEAD")
        fault = self.server.fault(next(self.server.count)) if reading else ""
        if fault:
            self.server.met.append(fault)
        if self.command == "GET":
            self.server.ranges.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.refusing and not reading:
            self.server.refused.append(self.path)
            self._answer(503, [("Content-Type", "application/xml")], b"<Error><Code>SlowDown</Code></Error>")
            return
        if fault == "late":
            time.sleep(0.5)
        if fault == "500":
            self._answer(500, [("Content-Type", "application/xml")], b"<Error><Code>InternalError</Code></Error>")
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=10)
        connection.request(self.command, self.path, body, dict(self.headers))
        response = connection.getresponse()
        data = response.read()
        headers = [pair for pair in response.getheaders() if pair[0].lower() not in ("transfer-encoding", "connection")]
        if fault == "cut":
            self._answer(response.status, headers, data[: len(data) // 2], whole=False)
            self.close_connection = True
        else:
            self._answer(response.status, headers, data)
        connection.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, whole: bool = True) -> None:
        self.send_response(status)
        named = {name.lower() for name, _ in headers}
        for name, value in headers:
            self.send_header(name, value)
        if "content-length" not in named:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        self.wfile.flush()
        if not whole:
            self.connection.close()

    def log_message(self, *_: object) -> None:
        pass
