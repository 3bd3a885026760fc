"""S3 on loopback: moto's server behind a proxy that counts, refuses and delays requests, and cuts connections."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlsplit

BUCKET = "bucket"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a server on loopback.

    `fault(number)` says what goes wrong with each GET or HEAD: "", "late", "500" or "cut". While `refusing` is set all
    other requests are answered 503, and counted in `refused`. `deny(request)` may give a status and an error code of S3
    to answer instead. `written` has the key of every object in the order in which they were complete.
    `keeps_conditions` is False for a server that ignores If-None-Match. `lose(request)` says whether a request is done,
    but not answered.
    """

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = port
        self.putting = threading.Lock()  # moto looks, and then puts: two conditional puts at once would both succeed
        self.clear()

    def clear(self) -> None:
        """Empties the bucket, forgets what was asked for, and lets nothing go wrong."""
        self.fault: Callable[[int], str] = lambda number: ""
        self.deny: Callable[[BaseHTTPRequestHandler], tuple[int, str] | None] = lambda request: None
        self.count = itertools.count()
        self.met: list[str] = []
        self.ranges: list[str] = []
        self.lose: Callable[[BaseHTTPRequestHandler], bool] = lambda request: False
        self.keeps_conditions = True
        self.refusing = False
        self.refused: list[str] = []
        self.written: list[str] = []
        for method, path in (("POST", "/moto-api/reset"), ("PUT", f"/{BUCKET}")):
            self._ask(method, path)

    def put(self, key: str, data: bytes) -> None:
        """Puts an object into the bucket, past the proxy."""
        self._ask("PUT", f"/{BUCKET}/{quote(key)}", data)

    def get(self, key: str) -> bytes:
        """An object of the bucket, past the proxy."""
        return self._ask("GET", f"/{BUCKET}/{quote(key)}")

    def list_keys(self) -> list[str]:
        """The keys of all objects in the bucket (of 1,000 at most), without markers of folders."""
        listing = ET.fromstring(self._ask("GET", f"/{BUCKET}?list-type=2"))
        found = [element.text or "" for element in listing.iter() if element.tag.endswith("}Key")]
        return [key for key in found if not key.endswith("/")]

    def _ask(self, method: str, path: str, data: bytes = b"") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, data)
            response = connection.getresponse()
            assert response.status == 200, response.status
            return response.read()

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
        body = self._body()
        if self.server.refusing and not reading:
            self.server.refused.append(self.path)
            self._answer(503, [("Content-Type", "application/xml")], b"<Error><Code>SlowDown</Code></Error>")
            return
        denied = self.server.deny(self)
        if denied:
            status, code = denied
            body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
            self._answer(status, [("Content-Type", "application/xml")], body)
            return
        if fault == "late":
            time.sleep(0.5)
        if fault == "500":
            self._answer(500, [("Content-Type", "application/xml")], b"<Error><Code>InternalError</Code></Error>")
            return
        if not self.server.keeps_conditions:
            del self.headers["If-None-Match"]
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=10)
        with self.server.putting if self.command == "PUT" else contextlib.nullcontext():
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            data = response.read()
        if self.server.lose(self):
            connection.close()
            self.close_connection = True
            return
        headers = [pair for pair in response.getheaders() if pair[0].lower() not in ("transfer-encoding", "connection")]
        if fault == "cut":
            self._answer(response.status, headers, data[: len(data) // 2], whole=False)
            self.close_connection = True
        else:
            self._note_written()
            self._answer(response.status, headers, data)
        connection.close()

    def _body(self) -> bytes:
        """The request's body. One in chunks, as current pyarrow sends it, is passed on in one piece."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        del self.headers["Transfer-Encoding"]
        self.headers["Content-Length"] = str(len(body))
        return body

    def _note_written(self) -> None:
        parts = urlsplit(self.path)
        whole = self.command == "PUT" and "partNumber=" not in parts.query
        if whole or (self.command == "POST" and "uploadId=" in parts.query):
            self.server.written.append(unquote(parts.path).removeprefix(f"/{BUCKET}/"))

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
