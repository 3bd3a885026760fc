"""Google Cloud Storage on loopback: objects of one bucket, as pyarrow reads and `gcs_put` writes them; and tokens."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

BUCKET = "bucket"


class FakeGcs(ThreadingHTTPServer):
    """Has `objects` by key. `failures` are the statuses of the next puts; 0: done, but not answered."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.failures: list[int] = []
        self.puts: list[tuple[str, str | None]] = []  # query and authorization of every put
        self.lock = threading.Lock()

    def uri(self, folder: str) -> str:
        """A folder of the bucket, for a Store."""
        return f"gs://anonymous@{BUCKET}/{folder}?scheme=http&endpoint_override=127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def fake_gcs() -> Iterator[FakeGcs]:
    """An empty bucket while the block runs."""
    server = FakeGcs()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeGcs

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        if url.path == "/token":
            return self._answer(200, b'{"access_token": "of-a-test", "expires_in": 3600, "token_type": "Bearer"}')
        assert url.path == f"/upload/storage/v1/b/{BUCKET}/o", url.path
        with self.server.lock:
            self.server.puts.append((url.query, self.headers.get("Authorization")))
            failure = self.server.failures.pop(0) if self.server.failures else None
            if failure:
                return self._answer(failure, b'{"error": {"message": "as the test wants it"}}')
            if query["name"] in self.server.objects and query["ifGenerationMatch"] == "0":
                return self._answer(412, b'{"error": {"message": "a condition does not hold"}}')
            self.server.objects[query["name"]] = data
        if failure == 0:
            self.close_connection = True
            return None
        return self._answer(200, self._metadata(query["name"]))

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        head, _, key = url.path.partition("/o/")
        if head.endswith(f"/b/{BUCKET}"):
            media = "media" in parse_qs(url.query).get("alt", [])
        else:
            key, media = url.path.removeprefix(f"/{BUCKET}/"), True
        key = unquote(key)
        data = self.server.objects.get(key)
        if data is None:
            return self._answer(404, b'{"error": {"message": "no such object"}}')
        return self._answer(200, data if media else self._metadata(key))

    def _metadata(self, key: str) -> bytes:
        size = str(len(self.server.objects[key]))
        found = {"kind": "storage#object", "name": key, "bucket": BUCKET, "generation": "1", "size": size}
        return json.dumps(found).encode()

    def _answer(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass
