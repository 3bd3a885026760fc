"""`_common_metadata`, for petastorm's readers. It holds a pickle, so nothing of ours ever reads it.

petastorm 0.13.1 cannot be imported beside a current pyarrow, so its pickle is written here, opcode by opcode. A test in
petastorm's own environment compares the bytes with petastorm's.
"""

from __future__ import annotations

import io
import json
import pickle

from preprocessing.dataset.manifest import SplitInfo
from preprocessing.dataset.parquet_writer import ParquetWriter
from preprocessing.dataset.schema import COLUMNS, Codec

UNISCHEMA_KEY = "dataset-toolkit.unischema.v1"
ROW_GROUPS_KEY = "dataset-toolkit.num_row_groups_per_file.v1"


def common_metadata(info: SplitInfo, size: int, codec: Codec, quality: int) -> bytes:
    """The bytes of a split's `_common_metadata`: petastorm's schema, and the row groups of each file."""
    row_groups = {file.name.rsplit("/", 1)[-1]: file.row_groups for file in info.files}
    metadata = {
        UNISCHEMA_KEY: unischema(size, codec, quality),
        ROW_GROUPS_KEY: json.dumps(row_groups).encode(),
    }
    sink = io.BytesIO()
    ParquetWriter(sink, COLUMNS, metadata).close()
    return sink.getvalue()


def unischema(size: int, codec: Codec, quality: int) -> bytes:
    """The pickle of petastorm's `Unischema` of our rows.

    What petastorm would write for the fields image (uint8 [size, size, 3]), label (int32) and id (string), none of
    which may be null.
    """
    pickled = _Pickle()
    pickled.new("petastorm.unischema", "Unischema")
    pickled.state()
    pickled.mark().text("_name").text("LotteryTrellis").text("_fields")
    pickled.add_global("collections", "OrderedDict").opcodes(pickle.EMPTY_TUPLE, pickle.REDUCE).memoize()
    pickled.mark()
    indices = []
    for name, dtype in (("image", "uint8"), ("label", "int32"), ("id", "str_")):
        name_index = pickled.text(name).last
        pickled.add_global("petastorm.unischema", "UnischemaField").mark().text(name).add_global("numpy", dtype)
        if name == "image":
            pickled.integer(size).integer(size).integer(3).opcodes(pickle.TUPLE3).memoize()
            _image_codec(pickled, codec, quality)
        else:
            pickled.opcodes(pickle.EMPTY_TUPLE)
            _scalar_codec(pickled, "IntegerType" if name == "label" else "StringType")
        pickled.opcodes(pickle.NEWFALSE, pickle.TUPLE).memoize()
        indices.append((name_index, pickled.opcodes(pickle.NEWOBJ).memoize().last))
    pickled.opcodes(pickle.SETITEMS)
    for name_index, field_index in indices:  # a Unischema has each field as an attribute, too
        pickled.get(name_index).get(field_index)
    return pickled.opcodes(pickle.SETITEMS, pickle.BUILD).done()


def _image_codec(pickled: _Pickle, codec: Codec, quality: int) -> None:
    if codec == "tensor":
        pickled.new("petastorm.codecs", "NdarrayCodec")
        return
    pickled.new("petastorm.codecs", "CompressedImageCodec").state()
    pickled.mark().text("_image_codec").text(".jpeg").text("_quality").integer(quality)
    pickled.opcodes(pickle.SETITEMS, pickle.BUILD)


def _scalar_codec(pickled: _Pickle, spark_type: str) -> None:
    pickled.new("petastorm.codecs", "ScalarCodec").state()
    pickled.text("_spark_type").new("pyspark.sql.types", spark_type)
    pickled.opcodes(pickle.SETITEM, pickle.BUILD)


class _Pickle:
    """Builds a pickle of protocol 2, whose classes need not be installed.

    Like Python's own pickler, it memoizes each class, text, tuple and object in the order in which they come, and gets
    a class or text that comes again from the memo.
    """

    def __init__(self) -> None:
        self._written = bytearray(pickle.PROTO + b"\x02")
        self._known: dict[object, int] = {}
        self._memoized = 0
        self.last = -1  # memo index of what was memoized, or got from the memo, last

    def opcodes(self, *codes: bytes) -> _Pickle:
        self._written += b"".join(codes)
        return self

    def memoize(self) -> _Pickle:
        self.last = self._memoized
        self._memoized += 1
        return self.opcodes(pickle.BINPUT, bytes([self.last]))

    def get(self, index: int) -> _Pickle:
        self.last = index
        return self.opcodes(pickle.BINGET, bytes([index]))

    def mark(self) -> _Pickle:
        return self.opcodes(pickle.MARK)

    def integer(self, value: int) -> _Pickle:
        if value < 1 << 8:
            return self.opcodes(pickle.BININT1, value.to_bytes(1, "little"))
        if value < 1 << 16:
            return self.opcodes(pickle.BININT2, value.to_bytes(2, "little"))
        return self.opcodes(pickle.BININT, value.to_bytes(4, "little", signed=True))

    def text(self, value: str) -> _Pickle:
        data = value.encode()
        return self._once(value, pickle.BINUNICODE + len(data).to_bytes(4, "little") + data)

    def add_global(self, module: str, name: str) -> _Pickle:
        return self._once((module, name), pickle.GLOBAL + f"{module}\n{name}\n".encode())

    def new(self, module: str, name: str) -> _Pickle:
        """An object of that class, made without arguments."""
        return self.add_global(module, name).opcodes(pickle.EMPTY_TUPLE, pickle.NEWOBJ).memoize()

    def state(self) -> _Pickle:
        """The dictionary of the object before it; what follows fills it."""
        return self.opcodes(pickle.EMPTY_DICT).memoize()

    def done(self) -> bytes:
        return bytes(self.opcodes(pickle.STOP)._written)

    def _once(self, key: object, opcodes: bytes) -> _Pickle:
        if key in self._known:
            return self.get(self._known[key])
        self.opcodes(opcodes).memoize()
        self._known[key] = self.last
        return self
