"""Thousands of damaged images and archives: each is decoded or refused, in time, and none is lost from the count."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preprocessing.common.storage import open_store
from preprocessing.images.decode import (
    CORRUPT,
    EMPTY,
    NOT_AN_IMAGE,
    TOO_LARGE,
    TRUNCATED,
    UNSUPPORTED,
    Rejected,
    decode,
)
from preprocessing.job.convert import convert_shard
from preprocessing.job.settings import Settings
from preprocessing.job.shards import Shard, serialise
from preprocessing.sources.official_tar import TRAIN_TAR
from preprocessing.sources.tar_index import TarError, members
from tests.preprocessing.archives import tar_bytes
from tests.preprocessing.mutations import IMAGES, mutate

REASONS = {EMPTY, TRUNCATED, CORRUPT, NOT_AN_IMAGE, TOO_LARGE, UNSUPPORTED}
SECONDS = 10.0  # of processor time, which other work on the machine does not add to
common = settings(
    deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def decode_or_refuse(data: bytes, size: int) -> bool:
    started = time.process_time()
    image, refusal = None, None
    try:
        image = decode(data, size)
    except Rejected as error:
        refusal = error
    assert time.process_time() - started < SECONDS
    if refusal is not None:
        assert refusal.reason in REASONS
        assert "\n" not in refusal.detail
        return False
    assert image is not None
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    return True


@settings(common, max_examples=1500)
@given(st.integers(0, len(IMAGES) - 1), st.integers(0, 2**32), st.integers(1, 4), st.sampled_from([1, 8, 30, 64]))
def test_a_mutated_image_is_decoded_or_refused(which: int, seed: int, times: int, size: int) -> None:
    decode_or_refuse(mutate(IMAGES[which], seed, times), size)


STARTS = [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"]


@settings(common, max_examples=200)
@given(st.binary(max_size=300), st.sampled_from(STARTS))
def test_noise_is_refused(noise: bytes, start: bytes) -> None:
    decode_or_refuse(start + noise, 8)


def test_whole_images_are_all_decoded() -> None:
    assert all(decode_or_refuse(data, 16) for data in IMAGES)


@settings(common, max_examples=25)
@given(st.integers(0, 2**32))
def test_images_in_are_rows_and_rejected(tmp_path: Path, seed: int) -> None:
    """A shard of forty images, most of them damaged, read as ranges of a tar."""
    chance = random.Random(seed)
    blobs = {
        f"{n}.JPEG": mutate(chance.choice(IMAGES), chance.randrange(2**32), chance.randrange(3)) for n in range(40)
    }
    tar = tar_bytes(blobs)
    (tmp_path / TRAIN_TAR).write_bytes(tar)
    inside = list(members(lambda at, length: tar[at : at + length], 0, len(tar)))
    table = pa.table(
        {
            "id": [member.name for member in inside],
            "path": [TRAIN_TAR] * len(inside),
            "offset": [member.offset for member in inside],
            "length": [member.size for member in inside],
            "label": pa.array(np.arange(len(inside)) % 7, pa.int32()),
        }
    )
    shard = Shard("train", 0, len(table), serialise(table))
    small = Settings(size=16, row_group_rows=8)
    record = convert_shard(shard, open_store(tmp_path), open_store(tmp_path / "out"), small, "f" * 64)
    good = [name for name, data in blobs.items() if decode_or_refuse(data, 16)]
    assert record.file is not None
    assert record.file.rows + len(record.rejected) == 40
    assert pq.read_table(tmp_path / "out" / record.file.name)["id"].to_pylist() == good
    assert [image.id for image in record.rejected] == [name for name in blobs if name not in good]
    assert sum(record.class_counts.values()) == len(good)


TAR_FILES = {f"n01440764_{number}.JPEG": bytes([number]) * (number * 131 % 1500) for number in range(12)}
TARS = [tar_bytes(TAR_FILES, kind) for kind in range(3)]
TARS.append(tar_bytes({f"{'long' * 40}/{name}": data for name, data in TAR_FILES.items()}))


def index_or_refuse(data: bytes) -> list[tuple[str, int]] | None:
    started = time.process_time()
    try:
        found = list(members(lambda at, length: data[at : at + length], 0, len(data)))
    except TarError:
        return None
    finally:
        assert time.process_time() - started < SECONDS
    assert all(0 < member.offset <= member.offset + member.size <= len(data) for member in found)
    return [(member.name, member.size) for member in found]


@settings(common, max_examples=600)
@given(st.integers(0, len(TARS) - 1), st.integers(0, 2**32), st.integers(1, 4))
def test_a_mutated_archive_is_indexed_or_refused(which: int, seed: int, times: int) -> None:
    index_or_refuse(mutate(TARS[which], seed, times))


@settings(common, max_examples=400)
@given(st.integers(0, len(TARS) - 1), st.integers(0), st.integers(1, 255))
def test_no_changed_byte_loses_a_member(which: int, place: int, change: int) -> None:
    data = bytearray(TARS[which])
    data[place % len(data)] ^= change
    found, expected = index_or_refuse(bytes(data)), index_or_refuse(TARS[which])
    assert expected is not None
    # A name that is longer than a header has no checksum of its own: it may come out wrong, but is not lost.
    assert found is None or [size for _, size in found] == [size for _, size in expected]


@settings(common, max_examples=200)
@given(st.integers(0, len(TARS) - 1), st.integers(0))
def test_no_archive_cut_short_passes_for_whole(which: int, keep: int) -> None:
    end = TARS[which].rindex(bytes([11])) // 512 * 512 + 512 + 1024  # the last member, and two empty blocks
    assert index_or_refuse(TARS[which][: keep % end]) is None


def test_a_progressive_image_of_very_many_scans_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    start = IMAGES[1].rindex(b"\xff\xda")
    few, many = (IMAGES[1][:start] + IMAGES[1][start:-2] * scans + b"\xff\xd9" for scans in (1, 100_000))
    assert decode_or_refuse(few, 16)
    monkeypatch.delattr("simplejpeg.decode_jpeg")  # which would be at it for minutes
    with pytest.raises(Rejected, match="more than 100 scans"):
        decode(many, 16)
