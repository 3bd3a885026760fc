"""`_common_metadata` is what petastorm would write, without petastorm, and the same with any version of any library."""

import hashlib
import io
import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest

from preprocessing.dataset.manifest import FileInfo, SplitInfo
from preprocessing.dataset.petastorm_metadata import ROW_GROUPS_KEY, UNISCHEMA_KEY, common_metadata, unischema
from preprocessing.dataset.schema import SCHEMA

FILES = [FileInfo(f"train/{number:05d}.parquet", 1, 2, number + 1, "") for number in range(3)]
INFO = SplitInfo(6, [6], FILES)


def test_any_parquet_reader_finds_both_entries():
    written = common_metadata(INFO, 256, "tensor", 95)
    schema = pq.read_schema(io.BytesIO(written))
    assert schema.equals(SCHEMA)
    assert schema.metadata == {
        UNISCHEMA_KEY.encode(): unischema(256, "tensor", 95),
        ROW_GROUPS_KEY.encode(): b'{"00000.parquet": 1, "00001.parquet": 2, "00002.parquet": 3}',
    }
    assert pq.read_metadata(io.BytesIO(written)).num_row_groups == 0


@pytest.mark.parametrize(("codec", "digest"), [("tensor", "1b8725a6764cc6b5"), ("jpeg", "e3e5fd276b5e16da")])
def test_the_bytes_are_pinned(codec, digest):
    assert hashlib.sha256(common_metadata(INFO, 256, codec, 95)).hexdigest()[:16] == digest


@pytest.mark.petastorm
@pytest.mark.parametrize("size", [8, 255, 256, 65535, 65536])
@pytest.mark.parametrize("quality", [1, 100])
@pytest.mark.parametrize("codec", ["tensor", "jpeg"])
def test_it_is_petastorms_own_pickle(codec, size, quality):
    from petastorm.codecs import CompressedImageCodec, NdarrayCodec, ScalarCodec
    from petastorm.etl.dataset_metadata import ROW_GROUPS_PER_FILE_KEY
    from petastorm.etl.dataset_metadata import UNISCHEMA_KEY as PETASTORMS_KEY
    from petastorm.unischema import Unischema, UnischemaField
    from pyspark.sql.types import IntegerType, StringType

    image = NdarrayCodec() if codec == "tensor" else CompressedImageCodec("jpeg", quality)
    schema = Unischema(
        "LotteryTrellis",
        [
            UnischemaField("image", np.uint8, (size, size, 3), image, False),
            UnischemaField("label", np.int32, (), ScalarCodec(IntegerType()), False),
            UnischemaField("id", np.str_, (), ScalarCodec(StringType()), False),
        ],
    )
    assert unischema(size, codec, quality) == pickle.dumps(schema, protocol=2)
    assert (UNISCHEMA_KEY.encode(), ROW_GROUPS_KEY.encode()) == (PETASTORMS_KEY, ROW_GROUPS_PER_FILE_KEY)
