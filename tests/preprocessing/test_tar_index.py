"""Our walk over a tar's headers against Python's own, for every dialect of the format; and what is damaged is found."""

from __future__ import annotations

import io
import tarfile
from typing import SupportsIndex

import pytest

from preprocessing.sources.archive import ReadAhead
from preprocessing.sources.tar_index import Member, TarError, members
from tests.preprocessing.archives import tar_bytes

FILES = {
    "plain.JPEG": b"x" * 1000,
    "empty.JPEG": b"",
    "exactly a block.JPEG": b"y" * 512,
    f"{'deep/' * 30}name that is longer than a header has room for.JPEG": b"z" * 600,
    "ünïcode.JPEG": b"w",
}


def index(data: bytes, start: int = 0, length: int | None = None) -> list[Member]:
    return list(members(lambda at, n: data[at : at + n], start, len(data) if length is None else length))


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_dialect(kind: int) -> None:
    data = tar_bytes(FILES, kind)
    found = {member.name: data[member.offset : member.offset + member.size] for member in index(data)}
    assert found == FILES


def test_a_tar_in_a_tar_is_walked_in_place() -> None:
    inner = tar_bytes(FILES)
    outer = tar_bytes({"first": b"1", "inner.tar": inner, "last": b"2"})
    member = next(member for member in index(outer) if member.name == "inner.tar")
    found = {
        part.name: outer[part.offset : part.offset + part.size] for part in index(outer, member.offset, member.size)
    }
    assert found == FILES


def test_links_and_devices_have_a_kind() -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, kind in (("folder", tarfile.DIRTYPE), ("link", tarfile.SYMTYPE), ("pipe", tarfile.FIFOTYPE)):
            header = tarfile.TarInfo(name)
            header.type = kind
            header.linkname = "elsewhere" * 20
            archive.addfile(header)
        archive.addfile(tarfile.TarInfo("file"))
    found = [(member.name, member.size, member.kind) for member in index(sink.getvalue())]
    assert found == [("link", 0, "link"), ("pipe", 0, "device"), ("file", 0, "")]


def test_an_archive_that_was_appended_to_another_is_not_lost() -> None:
    one, other = tar_bytes({"a": b"1"}), tar_bytes({"b": b"2"})
    with pytest.raises(TarError, match="another archive was appended at byte 10,240"):
        index(one + other)
    assert index(one + b"left in memory " * 1000) == index(one)


def test_a_member_of_nine_gibibytes() -> None:
    header = tarfile.TarInfo("large")
    header.size = 9 << 30
    block = header.tobuf(tarfile.GNU_FORMAT)
    end = len(block) + header.size

    def read_at(offset: int, length: int) -> bytes:
        return block[offset : offset + length] if offset < len(block) else bytes(length)

    assert list(members(read_at, 0, end + 1024)) == [Member("large", 512, 9 << 30)]


@pytest.mark.parametrize("keep", [0, 1, 511, 512, 600, 1536, -10240, -9800, -1, -512])
def test_an_archive_cut_short(keep: int) -> None:
    data = tar_bytes({"a": b"1" * 700, "b": b"2" * 700})
    used = data.rindex(b"2") // 512 * 512 + 512
    cut = data[:keep] if keep >= 0 else data[: used + 1024][: (keep if keep > -1000 else keep + 9800)]
    with pytest.raises(TarError, match=r"it ends|empty block"):
        index(cut)


def test_one_empty_block_is_not_the_end() -> None:
    data = tar_bytes({"a": b"1"})
    with pytest.raises(TarError, match="a single empty block at byte 1,024, with more data after it"):
        index(data[:1024] + bytes(512) + data[:1024] + bytes(1024))


@pytest.mark.parametrize("place", [0, 100, 124, 148, 156, 257])
def test_a_damaged_header(place: int) -> None:
    data = bytearray(tar_bytes({"a": b"1", "b": b"2"}))
    data[1024 + place] ^= 0x11
    with pytest.raises(TarError, match="a damaged header at byte 1,024"):
        index(bytes(data))


class CountedBytes(bytes):
    """Counts the bytes that are copied out of it by slicing, and out of its slices."""

    copied = 0

    def __getitem__(self, place: SupportsIndex | slice) -> int | CountedBytes:  # type: ignore[override]
        if not isinstance(place, slice):
            return super().__getitem__(place)
        part = CountedBytes(super().__getitem__(place))
        CountedBytes.copied += len(part)
        return part


def test_an_extended_header_of_many_short_records_is_read_once() -> None:
    sink = io.BytesIO()
    records = {f"note{number}": "x" for number in range(3_000)}
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as archive:
        header = tarfile.TarInfo("a.JPEG")
        header.pax_headers = records
        archive.addfile(header)
    data = CountedBytes(sink.getvalue())
    assert len(data) > 40_000
    CountedBytes.copied = 0
    assert [member.name for member in index(data)] == ["a.JPEG"]
    assert CountedBytes.copied < 6 * len(data)


def test_reading_in_blocks_is_reading() -> None:
    data = tar_bytes({f"{number}.JPEG": bytes(number * 977 % 200_000) for number in range(60)})
    reads: list[tuple[int, int]] = []

    def read_at(offset: int, length: int) -> bytes:
        reads.append((offset, length))
        return data[offset : offset + length]

    assert list(members(ReadAhead(read_at, len(data)), 0, len(data))) == index(data)
    assert len(reads) < 15
    assert sum(length for _, length in reads) < 1.1 * len(data)


def test_class_tars_far_apart_are_not_read() -> None:
    header = tarfile.TarInfo("class.tar")
    header.size = 100 << 20
    block = header.tobuf(tarfile.GNU_FORMAT)
    step = 512 + header.size
    read = 0

    def read_at(offset: int, length: int) -> bytes:
        nonlocal read
        read += length
        if offset >= 20 * step:
            return bytes(length)
        return (block + bytes(length))[:length] if offset % step == 0 else bytes(length)

    end = 20 * step + 1024
    assert len(list(members(ReadAhead(read_at, end), 0, end))) == 20
    assert read < 4 << 20
