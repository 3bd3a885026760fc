"""What a row is and how it lies in a Parquet file. docs/data-format.md says the same in words."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa

from preprocessing.dataset.parquet_writer import Column

Codec = Literal["tensor", "jpeg"]
CODECS: tuple[Codec, ...] = ("tensor", "jpeg")
NPY_HEADER_BYTES = 128
LENGTH_BYTES = 4  # Parquet's PLAIN encoding puts a little-endian length before each binary value
ROW_GROUP_ROWS = 64

SCHEMA = pa.schema(
    [
        pa.field("image", pa.binary(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
    ]
)
COLUMNS = (Column("image", "binary"), Column("label", "int32"), Column("id", "string"))


def npy_header(size: int) -> bytes:
    """The first 128 bytes of the `.npy` file of a uint8 [size, size, 3] array in C order; its pixels follow."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size}, {size}, 3), }}"
    head = b"\x93NUMPY\x01\x00" + (NPY_HEADER_BYTES - 10).to_bytes(2, "little") + text.encode()
    return head.ljust(NPY_HEADER_BYTES - 1) + b"\n"


def image_bytes(size: int) -> int:
    """Bytes of pixels in an image of uint8 [size, size, 3]."""
    return size * size * 3


def blob_bytes(size: int) -> int:
    """Bytes of a tensor's `.npy` blob."""
    return NPY_HEADER_BYTES + image_bytes(size)


def stride(size: int) -> int:
    """Bytes from one image of a row group to the next, in the file."""
    return LENGTH_BYTES + blob_bytes(size)
