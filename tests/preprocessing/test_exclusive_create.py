"""`Store.create` in a bucket: of several callers exactly one wins."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from preprocessing.common.errors import StorageError
from preprocessing.common.places import parse
from preprocessing.common.retries import may_pass
from preprocessing.common.storage import Store, open_store
from preprocessing.common.storage_check import check_usable
from preprocessing.common.stores import gcs_put, s3_put
from tests.lottery.s3_proxy import CREDENTIALS, Proxy, s3_proxy
from tests.preprocessing.fake_gcs import FakeGcs, fake_gcs


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with s3_proxy() as started:
        yield started


@pytest.fixture
def bucket(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Proxy:
    monkeypatch.setenv("HOME", str(tmp_path))  # without profiles
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    proxy.clear()
    return proxy


@pytest.fixture
def gcs() -> Iterator[FakeGcs]:
    with fake_gcs() as started:
        yield started


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if `create` waits for rivals to settle who wins: nothing can sleep for less than 0 s."""
    monkeypatch.setattr("preprocessing.common.stores.base.SETTLE_SECONDS", -1.0)


def contend(store: Store, number: int = 8) -> list[bytes]:
    """Those that win when so many create the same file at the same time."""
    barrier, won = threading.Barrier(number), []

    def create(data: bytes) -> None:
        barrier.wait()
        if store.create("lock", data):
            won.append(data)

    threads = [threading.Thread(target=create, args=(f"caller {each}".encode(),)) for each in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


def is_conditional_put(request: BaseHTTPRequestHandler) -> bool:
    return request.command == "PUT" and "If-None-Match" in request.headers


@pytest.mark.parametrize("attempt", range(3))
def test_one_wins_on_s3(bucket: Proxy, no_waiting: None, attempt: int) -> None:
    store = open_store(bucket.uri("größe#1/100%"))
    assert contend(store) == [store.read("lock")]
    assert bucket.list_keys() == ["größe#1/100%/lock"]


def test_one_wins_on_gcs(gcs: FakeGcs, no_waiting: None) -> None:
    won = contend(open_store(gcs.uri("a folder/größe+#1")))
    assert gcs.objects == {"a folder/größe+#1/lock": won[0]}
    assert len(won) == 1
    assert all("ifGenerationMatch=0" in query for query, _ in gcs.puts)


def test_a_write_between_the_look_and_the_put_is_kept(bucket: Proxy, no_waiting: None) -> None:
    """What pyarrow's own put replaced."""

    def rival(request: BaseHTTPRequestHandler) -> None:
        if request.command == "PUT":
            bucket.put("folder/lock", b"a rival's")

    bucket.deny = rival
    store = open_store(bucket.uri("folder"))
    assert not store.create("lock", b"mine")
    assert store.read("lock") == b"a rival's"


def test_a_put_whose_answer_is_lost_counts(bucket: Proxy, no_waiting: None) -> None:
    answers = [False, True]  # whether each is lost, from the last to the first
    bucket.lose = lambda request: is_conditional_put(request) and bool(answers) and answers.pop()
    assert open_store(bucket.uri("folder")).create("lock", b"mine")
    assert not answers


def test_a_put_whose_answers_are_all_lost_counts_the_next_time(bucket: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)
    store = open_store(bucket.uri("folder"))
    bucket.lose = is_conditional_put
    with pytest.raises(StorageError, match="^cannot write s3://bucket/folder/lock: no connection; check the") as caught:
        store.create("lock", b"mine")
    assert type(caught.value) is StorageError
    assert may_pass(caught.value)
    bucket.lose = lambda request: False
    assert not store.create("lock", b"another's")
    assert store.create("lock", b"mine")


def test_a_put_whose_answer_is_lost_counts_on_gcs(gcs: FakeGcs, no_waiting: None) -> None:
    gcs.failures = [503, 0]
    assert open_store(gcs.uri("folder")).create("lock", b"mine")
    assert len(gcs.puts) == 3


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidArgument")])
def test_a_server_without_conditional_puts(
    bucket: Proxy, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    monkeypatch.setattr("preprocessing.common.stores.base.SETTLE_SECONDS", 0.5)
    bucket.deny = lambda request: (status, code) if is_conditional_put(request) else None
    store = open_store(bucket.uri("folder"))
    assert contend(store) == [store.read("lock")]
    assert not store.create("lock", b"another's")
    check_usable(store.child("check"))


def test_a_server_that_ignores_conditions(bucket: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rival creates the file whole between the look and the put: if both trusted the answers, both would win."""
    monkeypatch.setattr("preprocessing.common.stores.base.SETTLE_SECONDS", 1.5)
    bucket.keeps_conditions = False
    store, won, puts = open_store(bucket.uri("folder")), [], []
    rival = threading.Thread(target=lambda: won.append(store.create("lock", b"a rival's")))

    def let_the_rival_go_first(request: BaseHTTPRequestHandler) -> None:
        if request.command != "PUT":
            return
        puts.append("conditional" if is_conditional_put(request) else "any")
        if len(puts) == 1:
            rival.start()
            while rival.is_alive() and "any" not in puts:  # until it has won, or waits for the last to write
                time.sleep(0.05)

    bucket.deny = let_the_rival_go_first
    won.append(store.create("lock", b"mine"))
    rival.join()
    assert sorted(won) == [False, True]
    assert not store.create("lock", b"another's")


def test_a_conflict_is_asked_again(bucket: Proxy, no_waiting: None) -> None:
    """S3 answers 409 if the object is deleted at the same moment."""
    conflicts = [(409, "ConditionalRequestConflict")] * 2
    bucket.deny = lambda request: conflicts.pop() if conflicts and is_conditional_put(request) else None
    assert open_store(bucket.uri("folder")).create("lock", b"mine")
    assert not conflicts


@pytest.mark.parametrize(
    ("status", "code", "says", "passing"),
    [
        (403, "AccessDenied", "access is denied; check the credentials, and what the bucket's policy", False),
        (403, "InvalidAccessKeyId", "the access key is unknown; check the credentials", False),
        (403, "SignatureDoesNotMatch", "the secret key is wrong; check the credentials", False),
        (400, "ExpiredToken", "the credentials have expired; renew them", False),
        (403, "RequestTimeTooSkewed", "this machine's clock is wrong; set it", True),
        (404, "NoSuchBucket", "there is no such bucket; correct its name", False),
        (400, "RequestTimeout", "the request is refused; check the credentials", False),
        (503, "SlowDown", "AWS Error SLOW_DOWN .HTTP status 503. during PutObject operation: SlowDown", True),
    ],
)
def test_a_refused_put_is_an_error_as_others_are(
    bucket: Proxy, monkeypatch: pytest.MonkeyPatch, status: int, code: str, says: str, passing: bool
) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)
    bucket.deny = lambda request: (status, code) if request.command == "PUT" else None
    store = open_store(bucket.uri("folder"))
    with pytest.raises(StorageError, match=rf"^cannot write s3://bucket/folder/lock: {says}") as caught:
        store.create("lock", b"mine")
    assert type(caught.value) is StorageError
    assert may_pass(caught.value) == passing
    assert bucket.list_keys() == []


@pytest.mark.parametrize("variable", ["CLOUD_STORAGE_EMULATOR_ENDPOINT", "CLOUD_STORAGE_TESTBENCH_ENDPOINT"])
def test_a_put_goes_to_the_emulator_that_pyarrow_reads_from(
    gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Whatever else the URI names: pyarrow does the same."""
    monkeypatch.setenv(variable, f"http://127.0.0.1:{gcs.server_port}")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")  # which pyarrow ignores
    assert open_store("gs://anonymous@bucket/folder?endpoint_override=127.0.0.1:1").create("lock", b"mine")
    assert gcs.objects == {"folder/lock": b"mine"}
    assert not open_store("gs://anonymous@bucket/folder").create("lock", b"another's")


def test_a_put_that_google_refuses_is_an_error_as_others_are(gcs: FakeGcs) -> None:
    gcs.failures = [403]
    with pytest.raises(StorageError, match=r"^cannot write gs://.*/lock: .*HTTP status 403: as the test") as caught:
        open_store(gcs.uri("folder")).create("lock", b"mine")
    assert type(caught.value) is StorageError
    assert gcs.objects == {}


def test_a_server_that_is_away_is_an_error_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)
    begin = time.monotonic()
    s3 = parse("s3://key:secret@bucket/folder?scheme=http&endpoint_override=127.0.0.1:1")
    with pytest.raises(OSError, match="^AWS Error NETWORK_CONNECTION during PutObject operation: ") as caught:
        s3_put.put_if_absent(s3, "us-east-1", "bucket/folder/lock", b"mine")
    assert type(caught.value) is OSError
    gs = parse("gs://anonymous@bucket/folder?endpoint_override=127.0.0.1:1")
    with pytest.raises(OSError, match=r"^google::cloud::Status\(ConnectionError: ") as caught:
        gcs_put.put_if_absent(gs, "bucket/folder/lock", b"mine")
    assert type(caught.value) is OSError
    assert time.monotonic() - begin < 10


def test_a_client_that_speaks_to_another_server_than_pyarrow_never_wins(
    bucket: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_put, "put_if_absent", lambda *_: None)
    with pytest.raises(StorageError, match="^cannot write s3://bucket/folder/lock: what was put there is not there"):
        open_store(bucket.uri("folder")).create("lock", b"mine")


def test_the_settings_of_a_uri_reach_both_clients(
    bucket: Proxy, monkeypatch: pytest.MonkeyPatch, no_waiting: None
) -> None:
    """Of a user and of a server named in the environment too; and neither client asks a proxy."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{bucket.server_port}")
    seen: set[tuple[str, str]] = set()

    def note(request: BaseHTTPRequestHandler) -> None:
        credential = request.headers["Authorization"].split("Credential=")[1].split(",")[0]
        seen.add((request.command, re.sub(r"/\d{8}/", "/day/", credential)))

    bucket.deny = note
    store = open_store("s3://KEY%2B1:SE%2FCRET@bucket/folder?region=eu-west-1")
    assert store.create("lock", b"mine")
    assert seen == {(method, "KEY+1/day/eu-west-1/s3/aws4_request") for method in ("GET", "HEAD", "PUT")}


def test_credentials_of_a_profile(
    bucket: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_waiting: None
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[other]\naws_access_key_id=KEY2\naws_secret_access_key=x\n")
    monkeypatch.setenv("AWS_PROFILE", "other")
    seen: set[tuple[str, bool]] = set()
    bucket.deny = lambda request: seen.add((request.command, "Credential=KEY2/" in request.headers["Authorization"]))
    assert open_store(bucket.uri("folder")).create("lock", b"mine")
    assert seen == {("GET", True), ("HEAD", True), ("PUT", True)}


def test_without_credentials_neither_client_signs(
    bucket: Proxy, monkeypatch: pytest.MonkeyPatch, no_waiting: None
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    signed: set[tuple[str, str | None]] = set()

    def refuse(request: BaseHTTPRequestHandler) -> tuple[int, str] | None:
        signed.add((request.command, request.headers["Authorization"]))
        return (403, "AccessDenied") if request.command == "PUT" else None

    bucket.deny = refuse
    store = open_store(bucket.uri("folder"))
    with pytest.raises(StorageError, match="without credentials: botocore finds none; check the credentials") as caught:
        store.create("lock", b"mine")
    assert not may_pass(caught.value)
    assert signed == {("HEAD", None), ("PUT", None)}


def test_google_credentials_sign_the_put(gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()).decode()
    account = {"type": "service_account", "client_email": "me@example.org", "private_key": pem, "private_key_id": "1"}
    file = tmp_path / "account.json"
    file.write_text(json.dumps({**account, "token_uri": f"http://127.0.0.1:{gcs.server_port}/token"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    assert open_store(gcs.uri("folder").replace("anonymous@", "")).create("lock", b"mine")
    assert [authorization for _, authorization in gcs.puts] == ["Bearer of-a-test"]


def test_missing_google_credentials_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(OSError, match=r"DefaultCredentialsError: File .*absent\.json was not found") as caught:
        gcs_put.put_if_absent(parse("gs://bucket/folder"), "bucket/folder/lock", b"mine")
    assert type(caught.value) is OSError


@pytest.mark.parametrize(
    ("uri", "environment", "expected"),
    [
        ("s3://bucket/folder", {}, ("", "", "", True)),
        ("s3://b/?endpoint_override=host:9000", {}, ("https://host:9000", "", "", True)),
        ("s3://b/?endpoint_override=https://host&scheme=http", {}, ("https://host", "", "", True)),
        ("s3://b/?endpoint_override=host", {"AWS_ENDPOINT_URL": "http://x"}, ("https://host", "", "", True)),
        (
            "s3://bucket/",
            {"AWS_ENDPOINT_URL": "http://x", "AWS_ENDPOINT_URL_S3": "http://y"},
            ("http://y", "", "", True),
        ),
        ("s3://k:s@b/?tls_verify_certificates=False", {}, ("", "k", "s", False)),
        ("s3://b/?tls_ca_file_path=/etc/ca.pem", {}, ("", "", "", "/etc/ca.pem")),
    ],
)
def test_settings(uri: str, environment: dict[str, str], expected: tuple[str, str, str, bool | str]) -> None:
    assert s3_put.settings(parse(uri), environment) == expected


def test_no_client_is_loaded_before_it_is_needed() -> None:
    code = (
        "import sys; from preprocessing.common.storage import open_store; "
        "open_store('s3://bucket/folder'); open_store('gs://bucket/folder'); "
        "sys.exit(bool({'botocore', 'google.auth', 'requests', 'urllib3'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
