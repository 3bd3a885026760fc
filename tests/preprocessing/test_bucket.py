"""The whole job from and to a bucket: what differs from a disk is that nothing can be renamed or locked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.retries import may_pass
from preprocessing.common.storage import open_store
from preprocessing.dataset.opening import Dataset
from preprocessing.job.plan import plan
from preprocessing.job.prepare import Request
from preprocessing.job.settings import Settings
from preprocessing.sources.layouts import open_source
from tests.lottery.s3_proxy import Proxy
from tests.preprocessing.archives import write_official
from tests.preprocessing.raw_images import CLASSES, preprocess
from tests.preprocessing.shard_files import cls_tar, slim_records, write_shards


def upload(folder: Path, bucket: Proxy, name: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            bucket.put(f"{name}/{path.relative_to(folder)}", path.read_bytes())


def test_no_entrance(bucket: Proxy) -> None:
    bucket.deny = lambda request: (403, "AccessDenied")
    with pytest.raises(StorageError, match=r"cannot (read|look at) s3://bucket/folder.*; check the") as caught:
        open_store(bucket.uri("folder")).read("x")
    assert type(caught.value) is StorageError
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", ["my images", "größe#1/100%/a?"])
def test_a_folder_of_any_name(bucket: Proxy, folder: str) -> None:
    head, query = bucket.uri("folder").split("?")
    store = open_store(f"{head}/{folder.replace('?', '%3F')}?{query}").child("50% [of] it?")
    store.write("x", b"1")
    assert bucket.get(f"folder/{folder}/50% [of] it?/x") == b"1"
    assert open_store(store.uri).list() == ["x"]


def test_another_bucket(bucket: Proxy) -> None:
    with pytest.raises(StorageError, match=r"s3://other/folder/x: there is no such bucket; correct its name") as caught:
        open_store(bucket.uri("folder").replace("//bucket", "//other")).write("x", b"1")
    assert not may_pass(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (403, "AccessDenied", "access is denied; check the credentials, and what the bucket's policy"),
        (301, "PermanentRedirect", r"in another region; add \?region=REGION to the URI"),
        (400, "AuthorizationHeaderMalformed", r"in another region; add \?region=REGION to the URI"),
        (403, "InvalidAccessKeyId", "the access key is unknown; check the credentials"),
        (403, "SignatureDoesNotMatch", "the secret key is wrong; check the credentials"),
        (400, "ExpiredToken", "the credentials have expired; renew them"),
    ],
)
def test_what_a_bucket_refuses_is_said_in_a_few_words(bucket: Proxy, status: int, code: str, says: str) -> None:
    bucket.deny = lambda request: (status, code)
    with pytest.raises(StorageError, match=rf"^cannot list s3://bucket/folder: .*{says}[^;]*$") as caught:
        open_store(bucket.uri("folder")).list()
    assert not may_pass(caught.value)
    with pytest.raises(StorageError, match=r"denied; check|another region; add|refused; check.*region=REGION"):
        open_store(bucket.uri("folder")).read("x")  # asks for the head, whose answer has no body


def test_an_output_inside_its_source_is_refused(bucket: Proxy, raw: Path) -> None:
    """The settings at the end of both URIs hid that one lies in the other."""
    upload(raw, bucket, "folder/raw")
    store = open_store(bucket.uri("folder")).child("raw")
    with pytest.raises(InputError, match=r"^--output s3://bucket/folder/raw/out is inside --source s3://.*/raw: "):
        preprocess(store.uri, store.child("out").uri)  # type: ignore[arg-type]


def test_what_is_wrong_with_a_dataset_is_named_without_the_settings_of_its_uri(bucket: Proxy) -> None:
    store = open_store(bucket.uri("folder"))
    store.write("manifest.json", b"{}")
    with pytest.raises(InputError, match=r"^s3://bucket/folder/manifest\.json cannot be read"):
        Dataset.open(bucket.uri("folder"))


def test_messages_and_plans_name_a_source_without_the_settings_of_its_uri(
    bucket: Proxy, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(raw, bucket, "folder/raw")
    uri = open_store(bucket.uri("folder")).child("raw").uri
    plan(Request(uri, str(tmp_path / "out"), Settings(size=8)))
    assert capsys.readouterr().out.startswith("source: s3://bucket/folder/raw, layout folders, 3 classes\n")
    upload(raw / "train", bucket, "folder/other/train")
    bucket.put("folder/other/valid/n9/x.JPEG", b"x")
    with pytest.raises(InputError, match="^s3://bucket/folder/other/valid/n9 is not a class of train: "):
        open_source(open_store(bucket.uri("folder")).child("other")).classes()


@pytest.mark.parametrize("layout", ["folders", "tar"])
def test_from_bucket_to_bucket(bucket: Proxy, raw: Path, made: Path, tmp_path: Path, layout: str) -> None:
    source = raw
    if layout == "tar":
        source = tmp_path / "tar"
        write_official(raw, source)
    store = open_store(bucket.uri("folder"))
    upload(source, bucket, "folder/raw")
    bucket.written.clear()
    preprocess(store.child("raw").uri, store.child("out").uri, rows_per_shard=20)  # type: ignore[arg-type]
    dataset = Dataset.open(store.child("out").uri)
    assert dataset.content_hash == Dataset.open(str(made)).content_hash
    for path in (made / "train").iterdir():
        assert bucket.get(f"folder/out/train/{path.name}") == path.read_bytes()
    images, labels = dataset.split("train").gather(np.array([41, 3, 3, 17]))
    expected, same_labels = Dataset.open(str(made)).split("train").gather(np.array([41, 3, 3, 17]))
    assert np.array_equal(images, expected)
    assert np.array_equal(labels, same_labels)
    # The manifest is the last thing to appear, and nothing of the work is left.
    assert [key for key in bucket.written if not key.endswith("/")][-1] == "folder/out/manifest.json"
    assert not [key for key in bucket.list_keys() if "_work" in key]
    with pytest.raises(InputError, match="give --overwrite"):
        preprocess(store.child("raw").uri, store.child("out").uri, size=16)  # type: ignore[arg-type]
    preprocess(store.child("raw").uri, store.child("out").uri, size=16, overwrite=True)  # type: ignore[arg-type]
    assert Dataset.open(store.child("out").uri).size == 16


def test_every_object_of_a_bucket_is_accounted_for(bucket: Proxy, raw: Path) -> None:
    store = open_store(bucket.uri("folder")).child("raw")
    upload(raw, bucket, "folder/raw")
    for name in (
        "test/a.JPEG",
        "train/beside.JPEG",
        "train/.cache/a.JPEG",
        "train/n01440764/@eaDir/a.JPEG",
        "notes.txt",
    ):
        store.write(name, b"x")
    catalogue = open_source(store).catalogue(CLASSES[:2])
    assert sum(map(len, catalogue.splits.values())) == 36
    assert {reason: found["files"] for reason, found in catalogue.skipped.as_dict().items()} == {
        "not chosen": 18,
        "hidden or a tool's": 2,
        "no image extension": 1,
        "image outside the class folders": 1,
        "image outside the layout": 1,
    }


@pytest.mark.parametrize(
    ("name", "others", "says"),
    [
        (
            "train/n01443537//x.JPEG",
            5,
            r"raw/train/n01443537//x\.JPEG and 5 more objects like it: a name",
        ),
        ("val//n01443537/x.JPEG", 0, r"raw/val//n01443537/x\.JPEG: a name with // in it"),
        ("/x.JPEG", 0, r"raw//x\.JPEG: a name with // in it"),
    ],
)
def test_objects_that_cannot_be_read_by_name_are_refused(
    bucket: Proxy, raw: Path, name: str, others: int, says: str
) -> None:
    """pyarrow lists them only recursively, and they were lost without a word."""
    upload(raw, bucket, "folder/raw")
    for path in (name, *(f"{name}{number}" for number in range(others))):
        bucket.put(f"folder/raw/{path}", b"x")
    source = open_source(open_store(bucket.uri("folder")).child("raw"))
    with pytest.raises(InputError, match=rf"^s3://bucket/folder/{says}.*: rename these objects") as caught:
        source.catalogue(source.classes())
    assert type(caught.value) is InputError


def test_objects_that_cannot_be_read_by_name_are_counted_outside_the_images(bucket: Proxy, raw: Path) -> None:
    upload(raw, bucket, "folder/raw")
    for name in ("test//x.JPEG", "test//y/z.JPEG", "train/.cache//x", "train/n01440764//.cache/x"):
        bucket.put(f"folder/raw/{name}", b"x")
    catalogue = open_source(open_store(bucket.uri("folder")).child("raw")).catalogue(CLASSES)
    assert sum(map(len, catalogue.splits.values())) == 54
    assert catalogue.skipped.as_dict() == {
        "hidden or a tool's": {"files": 2, "first": "train/.cache//x"},
        "object with an empty part in its name": {"files": 2, "first": "test//x.JPEG"},
    }
    assert "move them to names without //" in catalogue.skipped.warnings()[0]


def test_a_source_that_was_copied_below_an_empty_name(bucket: Proxy, raw: Path) -> None:
    upload(raw, bucket, "folder/raw/")
    with pytest.raises(InputError, match=r"raw//train/n01440764/n01440764_0\.JPEG and 53 more objects like it: a name"):
        open_source(open_store(bucket.uri("folder")).child("raw"))


def test_folders_without_images_are_seen_in_a_bucket(bucket: Proxy, raw: Path) -> None:
    """There as an object of no bytes, by which consoles make a folder."""
    upload(raw / "train", bucket, "folder/raw/train")
    bucket.put("folder/raw/val/n01440764/", b"")
    source = open_source(open_store(bucket.uri("folder")).child("raw"))
    with pytest.raises(InputError, match="val holds no images in its class folders"):
        source.catalogue(source.classes())


def test_no_dataset_in_the_bucket(bucket: Proxy) -> None:
    open_store(bucket.uri("folder")).write("x", b"1")
    with pytest.raises(InputError, match=r"s3://bucket/folder/absent.* is not a dataset: it does not exist"):
        Dataset.open(open_store(bucket.uri("folder")).child("absent").uri)


@pytest.mark.parametrize("kind", ["webdataset", "tfrecord"])
def test_shards_on_a_bucket(raw: Path, made: Path, bucket: Proxy, tmp_path: Path, kind: str) -> None:
    write, name = {
        "webdataset": (cls_tar, "{split}-{number:03}.tar"),
        "tfrecord": (slim_records, "{split}-{number:05}-of-00002"),
    }[kind]
    write_shards(raw, tmp_path / "shards", write, name)
    upload(tmp_path / "shards", bucket, "shards")
    source = bucket.uri("shards")
    whole = preprocess(source, tmp_path / "whole", rows_per_shard=20)  # type: ignore[arg-type]
    assert whole.source["layout"] == kind
    assert whole.hash == Dataset.open(str(made)).content_hash
    braces = name.replace("{split}", "{train,val}").replace("{number:03}", "{000..001}")
    braces = braces.replace("{number:05}", "{00000..00001}")
    named = source.replace("/shards", f"/shards/{braces}")
    assert preprocess(named, tmp_path / "named", rows_per_shard=20).hash == whole.hash  # type: ignore[arg-type]
