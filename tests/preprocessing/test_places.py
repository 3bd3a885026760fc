"""A place that was damaged on its way, or mistyped, is never taken for a new folder of that name."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from preprocessing.common.errors import InputError
from preprocessing.common.places import local_path, parse
from preprocessing.common.storage import open_store

LOST = "LC_ALL=C.UTF-8"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("s3:/bucket/x", "write s3://bucket/x"),
        ("gs:bucket/x", "write gs://bucket/x"),
        ("S3:bucket", "write s3://bucket"),
        ("s3//bucket/x", "write s3://bucket/x"),
        (r"s3:\\bucket\x", r"write s3://bucket\x"),
        ("hdfs://host/x?replication=1", "no settings after a ?; put them in core-site.xml"),
        ("hdfs://me@host/x", "set HADOOP_USER_NAME"),
        ("hdfs:/data/x", "write hdfs://NAMENODE/data/x"),
        ("file:x", "write file:///x"),
        ("file://data/x", "write file:///data/"),
        ("dbfs:/x", "unknown scheme dbfs://"),
        ("abfs://container@account/x", "unknown scheme abfs://; known are s3, gs"),
        ("https://bucket.s3.amazonaws.com/x", "unknown scheme https://"),
        ("~nobody-of-this-name/x", "no such user"),
        ("$HOME/x", "write the folder out"),
        (" s3://bucket/x", "begins or ends with a space"),
        ("runs\n", "line break"),
        ("a\0b", "control character"),
        ("gr????e", LOST),
        ("/data/gr\ufffd\ufffde/runs", LOST),
        ("gr\udcf6\udcdfe", LOST),
        ("s3://bucket/gr????e", LOST),
        ("file:///data/gr????e", LOST),
        ("hdfs://host/gr??e/x", LOST),
    ],
)
def test_a_damaged_or_mistyped_place_is_refused(
    text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        open_store(text).write("x", b"")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match=r"^experiment "):
        local_path(text, "experiment")


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("file:/data/my%20runs", "/data/my runs"),
        ("file:///data/x", "/data/x"),
        ("file://localhost/data/x", "/data/x"),
        ("~/runs", "/home/me/runs"),
        ("/data/a#b c%20d", "/data/a#b c%20d"),
        ("/data/run:1/größe", "/data/run:1/größe"),
        ("s3a://bucket/x", "s3://bucket/x"),
        ("S3://bucket/x/", "s3://bucket/x"),
        ("gcs://bucket/x", "gs://bucket/x"),
        ("hdfs:///", "hdfs://"),
    ],
)
def test_what_a_place_means(text: str, means: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert parse(text).uri == means


def test_a_folder_that_is_really_named_so_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("what?", "~backup", "$HOME", "run ", "run:1"):
        (tmp_path / name).mkdir()
        open_store(f"{name}/new" if name != "run " else name).write("x", b"1")
        assert list((tmp_path / name).rglob("x"))
    later = open_store(tmp_path).child("why?/not")  # a name that no user typed
    later.write("x", b"1")
    assert pickle.loads(pickle.dumps(later)).read("x") == b"1"  # noqa: S301


def test_a_local_file_is_not_looked_for_in_a_bucket() -> None:
    with pytest.raises(InputError, match=r"^experiment s3://bucket/x.yaml: must be on a local disk"):
        local_path("s3://bucket/x.yaml", "experiment")


@pytest.mark.parametrize(
    ("text", "strict"),
    [
        ("s3://bucket/my images", "s3://bucket/my%20images"),
        ("s3://bucket/my%20images", "s3://bucket/my%20images"),
        ("s3://bucket/a#b[c]/100%/größe", "s3://bucket/a%23b%5Bc%5D/100%25/gr%C3%B6%C3%9Fe"),
        ("s3://bucket/a+b=c:d@e?region=eu-west-1", "s3://bucket/a+b=c:d@e?region=eu-west-1"),
        ("hdfs:///", "hdfs:///"),
    ],
)
def test_any_character_may_be_in_a_uri(text: str, strict: str) -> None:
    place = parse(text)
    assert place.strict_uri == strict
    assert parse(place.uri) == place
    child = place.child("100% of?it#/ä")
    assert parse(child.uri) == child
    assert child.strict_uri.split("?")[0].endswith("/100%25%20of%3Fit%23/%C3%A4")
