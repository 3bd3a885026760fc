"""A dataset over S3's protocol, through a proxy that answers 500, answers late and cuts connections."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from lottery.experiment import Data, Input
from preprocessing.dataset import Dataset
from preprocessing.errors import InputError
from tests.lottery.datasets import write_dataset

pytestmark = pytest.mark.cluster


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a server on loopback; `fault(number)` says what goes wrong with each GET or HEAD."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = port
        self.fault = lambda number: ""
        self.count = itertools.count()
        self.met: list[str] = []
        self.ranges: list[str] = []


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


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    _, port = server.get_host_and_port()
    proxy = Proxy(port)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("PUT", "/bucket")
        assert connection.getresponse().status == 200
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        server.stop()


@pytest.fixture(scope="module", params=["tensor", "jpeg"])
def far(
    request: pytest.FixtureRequest, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """The same dataset by URI and by path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        address = f"127.0.0.1:{proxy.server_port}"
        uri = f"s3://bucket/{request.param}?scheme=http&endpoint_override={address}&region=us-east-1"
        path = str(tmp_path_factory.mktemp("near") / request.param)
        for place in (uri, path):
            write_dataset(place, {"train": [40, 40, 20], "val": [21]}, codec=request.param)
        yield uri, path


@pytest.fixture(autouse=True)
def no_faults_afterwards(proxy: Proxy) -> Iterator[None]:
    proxy.met.clear()
    proxy.ranges.clear()
    yield
    proxy.fault = lambda number: ""


DATA = Data(batch=12, crop=11, flip=True)
WINDOW = Input(shuffle_window=3, read_threads=3)


def epoch(uri: str, settings: Input = WINDOW) -> tuple[np.ndarray, np.ndarray]:
    """An epoch and a bit of training, and the evaluation."""
    from lottery.input import TrainingInput, evaluation_batches

    dataset = Dataset.open(uri)
    parts = [
        (np.asarray(images).reshape(-1, 11, 11, 3), np.asarray(labels).reshape(-1))
        for images, labels in TrainingInput(dataset, DATA, 3, settings).stream([(3, 5), (5, 14)])
    ]
    parts += evaluation_batches(dataset, DATA, settings)
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


@pytest.mark.parametrize("fault", ["", "500", "late", "cut", "all"])
def test_nothing_is_lost(tensorflow: object, proxy: Proxy, far: tuple[str, str], fault: str) -> None:
    uri, path = far
    faults = ["500", "late", "cut"] if fault == "all" else [fault]
    random = np.random.default_rng(0)
    lot = random.random(100_000)
    proxy.fault = lambda number: str(faults[number % len(faults)]) if lot[number] < 0.3 else ""
    images, labels = epoch(uri)
    expected, expected_labels = epoch(path)
    assert np.array_equal(images, expected)
    assert np.array_equal(labels, expected_labels)
    assert set(filter(None, proxy.met)) == set(filter(None, faults))


def test_the_cache_spares_the_second_epoch(
    tensorflow: object, proxy: Proxy, far: tuple[str, str], tmp_path: object
) -> None:
    uri, path = far
    settings = Input(shuffle_window=3, cache_dir=str(tmp_path))
    epoch(uri, settings)
    proxy.ranges.clear()
    images, _ = epoch(uri, settings)
    assert np.array_equal(images, epoch(path)[0])
    assert [where for where in proxy.ranges if "parquet" in where] == []


@pytest.mark.parametrize("far", ["tensor"], indirect=True)  # it takes long: the client's own retries cannot be set
def test_a_store_that_stays_broken_is_one_clear_error(
    tensorflow: object, proxy: Proxy, far: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("preprocessing.retries.PAUSES", (0.01,))
    uri, _ = far
    Dataset.open(uri)
    settled = next(proxy.count)
    proxy.fault = lambda number: "cut" if number > settled + 3 else ""
    with pytest.raises(InputError, match=r"(cannot read s3://bucket/.*part-0000\d\.parquet|manifest)") as caught:
        epoch(uri)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_clear_error(tensorflow: object, proxy: Proxy, far: tuple[str, str]) -> None:
    from preprocessing.storage import Store

    uri, _ = far
    store = Store(uri)
    data = store.read("train/part-00001.parquet")
    store.delete("train/part-00001.parquet")
    try:
        with pytest.raises(InputError, match=r"train/part-00001\.parquet is damaged: it is missing; copy the file"):
            epoch(uri)
    finally:
        store.write("train/part-00001.parquet", data)
