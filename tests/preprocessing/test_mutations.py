"""Thousands of damaged images and archives: each is decoded or refused, in time, and none is lost from the count."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import tar_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from raw_images import photo

from preprocessing.convert import convert_shard
from preprocessing.images import CORRUPT, EMPTY, NOT_AN_IMAGE, TOO_LARGE, TRUNCATED, UNSUPPORTED, Rejected, decode
from preprocessing.settings import Settings
from preprocessing.shards import Shard, serialise
from preprocessing.source_tar import TRAIN_TAR
from preprocessing.storage import Store
from preprocessing.tar_index import TarError, members

REASONS = {EMPTY, TRUNCATED, CORRUPT, NOT_AN_IMAGE, TOO_LARGE, UNSUPPORTED}
SECONDS = 10.0  # of processor time, which other work on the machine does not add to
common = settings(
    deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def encoded(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    image = Image.fromarray(photo(45, 60)).convert(mode)
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def exif() -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = 6
    return found


IMAGES = [
    encoded("JPEG", quality=80),
    encoded("JPEG", progressive=True),
    encoded("JPEG", "L"),
    encoded("JPEG", "CMYK"),
    encoded("JPEG", restart_marker_blocks=2, exif=exif()),
    encoded("JPEG", subsampling=0, optimize=True, icc_profile=b"x" * 300),
    encoded("PNG"),
    encoded("PNG", "I;16"),
    encoded("GIF", "P"),
    encoded("BMP"),
    encoded("WEBP"),
]


# A mutation is drawn as a few integers, so that a failing one shrinks to something small.
MUTATIONS: list[Callable[[bytearray, random.Random], None]] = []


def mutation(function: Callable[[bytearray, random.Random], None]) -> Callable[[bytearray, random.Random], None]:
    MUTATIONS.append(function)
    return function


@mutation
def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data) + 1) :]


@mutation
def flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 1, 2, 8, 64])):
        if data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


@mutation
def spoil_header(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 2, 4])):
        if data:
            data[chance.randrange(min(len(data), 700))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])


@mutation
def remove(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    del data[start : start + chance.choice([1, 2, 10, 500])]


@mutation
def insert(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    data[start:start] = chance.choice([b"\0", b"\xff", b"\xff\xd9", b"\xff\xda", b"\xff\xd8", chance.randbytes(40)])


@mutation
def repeat(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    data[start:start] = data[start : start + chance.choice([4, 60, 1000])] * chance.choice([1, 3, 30])


@mutation
def overwrite(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    size = chance.choice([2, 16, 400])
    data[start : start + size] = chance.choice([bytes(size), b"\xff" * size, chance.randbytes(size)])


@mutation
def enlarge(data: bytearray, chance: random.Random) -> None:
    """Gives a JPEG's frame other dimensions, up to a decompression bomb."""
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        place = data.find(marker)
        if place >= 0:
            side = chance.choice([0, 1, 7, 4000, 65535])
            start = place + 5 + 2 * chance.randrange(2)
            data[start : start + 2] = side.to_bytes(2, "big")


def mutate(data: bytes, seed: int, times: int) -> bytes:
    chance = random.Random(seed)
    found = bytearray(data)
    for _ in range(times):
        chance.choice(MUTATIONS)(found, chance)
    return bytes(found)


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
    record = convert_shard(shard, Store(tmp_path), Store(tmp_path / "out"), small, "f" * 64)
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


def test_a_progressive_image_of_very_many_scans_is_refused_at_once() -> None:
    start = IMAGES[1].rindex(b"\xff\xda")
    few, many = (IMAGES[1][:start] + IMAGES[1][start:-2] * scans + b"\xff\xd9" for scans in (1, 100_000))
    assert decode_or_refuse(few, 16)
    started = time.monotonic()
    with pytest.raises(Rejected, match="more than 100 scans"):
        decode(many, 16)
    assert time.monotonic() - started < 1
