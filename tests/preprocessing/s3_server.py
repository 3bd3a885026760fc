"""As much of S3 as pyarrow's filesystem speaks, over a dictionary: enough to run the suite against a bucket."""

from __future__ import annotations

import re
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class Bucket:
    """The objects of one bucket. `puts` are the keys in the order in which they appeared; `deny` makes all fail."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.deny = False
        self.uri = ""

    def put(self, key: str, data: bytes) -> None:
        self.objects[key] = data
        self.puts.append(key)


@contextmanager
def s3_bucket(name: str = "bucket") -> Iterator[Bucket]:
    """Serves a bucket while the block runs; `uri` is that of a folder in it."""
    bucket = Bucket()

    class Handler(_Handler):
        pass

    Handler.bucket, Handler.name = bucket, name
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint = f"127.0.0.1%3A{server.server_address[1]}"
    bucket.uri = f"s3://{name}/folder?endpoint_override={endpoint}&scheme=http&region=us-east-1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield bucket
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # an answer in one packet: in two, each waits for an acknowledgement
    disable_nagle_algorithm = True
    bucket: Bucket
    name: str

    def handle_expect_100(self) -> bool:
        found = super().handle_expect_100()
        self.wfile.flush()  # the client holds its body back until then
        return found

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _request(self) -> tuple[str, dict[str, str], bytes] | None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if self.bucket.deny:
            self._error(403, "AccessDenied")
            return None
        if bucket != self.name:
            self._error(404, "NoSuchBucket")
            return None
        return key, query, body

    def do_HEAD(self) -> None:
        if (request := self._request()) is None:
            return
        key = request[0]
        if key and key not in self.bucket.objects:
            self._error(404, "NotFound")
        else:
            size = len(self.bucket.objects[key]) if key else 0
            self._answer(200, Content_Length=str(size), Last_Modified="Sun, 22 Nov 2026 09:00:00 GMT")

    def do_GET(self) -> None:
        if (request := self._request()) is None:
            return
        key, query, _ = request
        if not key:
            self._list(query)
            return
        data = self.bucket.objects.get(key)
        if data is None:
            self._error(404, "NoSuchKey")
            return
        span = re.match(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if span:
            self._answer(206, data[int(span[1]) : int(span[2]) + 1])
        else:
            self._answer(200, data)

    def do_PUT(self) -> None:
        if (request := self._request()) is None:
            return
        key, query, body = request
        if "partNumber" in query:
            self.bucket.uploads[query["uploadId"]][int(query["partNumber"])] = body
        else:
            self.bucket.put(key, body)
        self._answer(200, ETag='"tag"')

    def do_POST(self) -> None:
        if (request := self._request()) is None:
            return
        key, query, body = request
        if "uploads" in query:
            name = str(len(self.bucket.uploads))
            self.bucket.uploads[name] = {}
            self._answer(200, f"<R><Bucket>b</Bucket><Key>k</Key><UploadId>{name}</UploadId></R>".encode())
        elif "uploadId" in query:
            parts = self.bucket.uploads.pop(query["uploadId"])
            self.bucket.put(key, b"".join(parts[number] for number in sorted(parts)))
            self._answer(200, b"<CompleteMultipartUploadResult><ETag>tag</ETag></CompleteMultipartUploadResult>")
        elif "delete" in query:
            for element in ET.fromstring(body).iter():
                if element.tag.endswith("Key"):
                    self.bucket.objects.pop(element.text or "", None)
            self._answer(200, b"<DeleteResult></DeleteResult>")

    def do_DELETE(self) -> None:
        if (request := self._request()) is None:
            return
        self.bucket.objects.pop(request[0], None)
        self._answer(204)

    def _list(self, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        keys, folders = [], set()
        for key in sorted(self.bucket.objects):
            if not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.split(delimiter)[0] + delimiter)
            else:
                keys.append(key)
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.bucket.objects[key])}</Size>"
            "<LastModified>2026-11-22T09:00:00.000Z</LastModified></Contents>"
            for key in keys
        )
        common = "".join(
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders)
        )
        count = len(keys) + len(folders)
        text = f"<KeyCount>{count}</KeyCount><IsTruncated>false</IsTruncated>{contents}{common}"
        self._answer(200, f"<ListBucketResult>{text}</ListBucketResult>".encode())
