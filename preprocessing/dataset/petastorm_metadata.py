"""`_common_metadata`, for petastorm's readers. It holds a pickle, so nothing of ours ever reads it."""

from __future__ import annotations

import io
import json
import pickle

import numpy as np
import pyarrow.parquet as pq
from petastorm.codecs import CompressedImageCodec, NdarrayCodec, ScalarCodec
from petastorm.etl.dataset_metadata import ROW_GROUPS_PER_FILE_KEY, UNISCHEMA_KEY
from petastorm.unischema import Unischema, UnischemaField
from pyspark.sql.types import IntegerType, StringType

from preprocessing.dataset.manifest import SplitInfo
from preprocessing.dataset.schema import SCHEMA, Codec


def common_metadata(info: SplitInfo, size: int, codec: Codec, quality: int) -> bytes:
    """The bytes of a split's `_common_metadata`: petastorm's schema, and the row groups of each file."""
    image = NdarrayCodec() if codec == "tensor" else CompressedImageCodec("jpeg", quality)
    schema = Unischema(
        "LotteryTrellis",
        [
            UnischemaField("image", np.uint8, (size, size, 3), image, False),
            UnischemaField("label", np.int32, (), ScalarCodec(IntegerType()), False),
            UnischemaField("id", np.str_, (), ScalarCodec(StringType()), False),
        ],
    )
    row_groups = {file.name.rsplit("/", 1)[-1]: file.row_groups for file in info.files}
    metadata = {
        UNISCHEMA_KEY: pickle.dumps(schema, protocol=2),
        ROW_GROUPS_PER_FILE_KEY: json.dumps(row_groups).encode(),
    }
    sink = io.BytesIO()
    pq.write_metadata(SCHEMA.with_metadata(metadata), sink)
    return sink.getvalue()
