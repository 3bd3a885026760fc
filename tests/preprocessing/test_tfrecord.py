"""TFRecord files: what TensorFlow writes is read, and damage is named in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from preprocessing.sources.layouts import open_source
from preprocessing.sources.tfrecord_file import features, masked_crc, records
from tests.preprocessing.pixel_files import write_files
from tests.preprocessing.raw_images import jpeg, preprocess
from tests.preprocessing.shard_files import example, framed

IMAGE = jpeg(40, 40)
RECORDS = framed(example({"image": IMAGE, "label": 0})) * 2
LAST = len(RECORDS) // 2


def _changed(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (RECORDS[:-1], r"a\.tfrecord is damaged: it is cut short at byte [\d,]+, within a record that ends at"),
        (RECORDS[: LAST + 5], "it is cut short at byte .*, within the header of a record"),
        (_changed(RECORDS, LAST), "the checksum of a record's length at byte .* is wrong"),
        (_changed(RECORDS, LAST + 500), "the checksum of the record at byte .* is wrong; download it again"),
        (b"<html>login</html>", "the checksum of a record's length at byte 0 is wrong"),
        (b"\x1f\x8b" + RECORDS, "is compressed with gzip, and has to be unpacked first"),
        (framed(b"\xff" * 20), "the record at byte 12 is not a tf.train.Example"),
        (framed(example({"text": b"x"})), "record 1: it has no image/encoded or image but text"),
        (
            RECORDS + framed(example({"image": IMAGE})),
            "record 3: it has no image/class/synset or image/class/label or",
        ),
        (framed(example({"image": IMAGE, "label": b"x"})), "record 1: its label is not one whole number"),
        (framed(example({"image": 3, "label": 0})), "record 1: its image is not one image"),
        (framed(example({"image": IMAGE, "label": -1})), "label -1, out of range"),
        (b"", "has no images in its files of train"),
    ],
)
def test_records_that_cannot_be_used(tmp_path: Path, data: bytes, says: str) -> None:
    write_files(tmp_path / "raw", {"a.tfrecord": data})
    with pytest.raises(InputError, match=says) as caught:
        preprocess(tmp_path / "raw", tmp_path / "out")
    assert type(caught.value) is InputError
    assert "\n" not in str(caught.value)


def test_records_without_names_are_numbered(tmp_path: Path) -> None:
    write_files(tmp_path, {"train-00000-of-00001": RECORDS})
    table = open_source(open_store(tmp_path)).catalogue(["0"]).splits["train"]
    assert table["id"].to_pylist() == ["0/train-00000-of-00001-000000", "0/train-00000-of-00001-000001"]


# {"image": b"\xff\xd8", "label": [300, -1], "x": [0.5]}, by TensorFlow 2.21.
BY_TENSORFLOW = (
    "3d000000000000006049f1ec0a3b0a0f0a05696d61676512060a040a02ffd80a190a056c61626"
    "56c12101a0e0a0cac02ffffffffffffffffff010a0d0a0178120812060a040000003fca0b1be6"
)


def test_a_file_that_tensorflow_wrote() -> None:
    data = bytes.fromhex(BY_TENSORFLOW)
    (record,) = records(lambda offset, length: data[offset : offset + length], len(data))
    found = features(record.data)
    (image,) = found["image"]
    assert not isinstance(image, int)
    assert record.data[image.start : image.end] == b"\xff\xd8"
    assert found["label"] == [300, -1]
    assert found["x"] == []
    assert masked_crc(bytes(32)) == (((0x8A9136AA >> 15 | 0x8A9136AA << 17) + 0xA282EAD8) & 0xFFFFFFFF)  # RFC 3720
