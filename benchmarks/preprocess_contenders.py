"""The contenders of benchmarks/preprocess.py. Each runs in a process of its own, which alone imports its library."""

from __future__ import annotations

import io
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.environment import ROOT
from benchmarks.preprocess import SIZE
from preprocessing.images.decode import centre_square, decode, scale_divisor
from preprocessing.job.shards import Shard, ShardRecord

ROWS_PER_FILE = 256
HUB_ROWS = 500
PSNR_IMAGES = 250


def run(name: str, source: Path, output: Path, cores: int) -> dict[str, Any]:
    """Measures one contender: images, seconds, cpu_seconds, bytes written, and figures that only it has."""
    files = sorted((source / "train").glob("*/*.JPEG"))
    if name == "ours":
        return _ours(source, output, cores)
    if name == "hub":
        hub = source.parent / "hub"
        write_hub(files, hub)
        return _ours(hub, output, cores, len(files))
    if name == "petastorm":
        return _petastorm(files, output, cores)
    found = _processes(POOLED[name], files, output, cores)
    if name == "pillow":
        found["psnr_db"] = psnr(files[:PSNR_IMAGES])
    return found


# A process for each core, each with its share of the images. It prepares itself, waits for the others, then works.

Worker = Callable[[Sequence[Path], Path], Callable[[], None]]


def _processes(worker: Worker, files: Sequence[Path], output: Path, cores: int) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    ready, done, cpu = context.Barrier(cores + 1), context.Barrier(cores + 1), context.Array("d", cores)
    children = [
        context.Process(target=_work, args=(worker, files[place::cores], output / str(place), ready, done, cpu, place))
        for place in range(cores)
    ]
    for child in children:
        child.start()
    ready.wait(timeout=120)
    started = time.perf_counter()
    done.wait(timeout=1200)
    seconds = time.perf_counter() - started
    for child in children:
        child.join()
    return {"images": len(files), "seconds": seconds, "cpu_seconds": sum(cpu), "bytes": _bytes_below(output)}


def _work(worker: Worker, files: Sequence[Path], output: Path, ready: Any, done: Any, cpu: Any, place: int) -> None:
    cv2.setNumThreads(1)
    output.mkdir(parents=True)
    action = worker(files, output)
    warm_memory(output, len(files))
    ready.wait()
    started = time.process_time()
    action()
    cpu[place] = time.process_time() - started
    done.wait()


def warm_memory(folder: Path, images: int) -> None:
    """Has the kernel hold as much memory as the output will take. A virtual machine gets it from its host, slowly."""
    piece = bytes(SIZE * SIZE * 3)
    with (folder / "warm").open("wb", buffering=0) as file:
        for _ in range(images):
            file.write(piece)
    (folder / "warm").unlink()


def limit(files: Sequence[Path], _: Path) -> Callable[[], None]:
    """Decode + resize and nothing else."""
    loaded = [path.read_bytes() for path in files]

    def action() -> None:
        for data in loaded:
            decode(data, SIZE)

    return action


def pillow(files: Sequence[Path], _: Path) -> Callable[[], None]:
    """The same with Pillow."""
    loaded = [path.read_bytes() for path in files]
    with_pillow(loaded[0])

    def action() -> None:
        for data in loaded:
            with_pillow(data)

    return action


def tfrecord(files: Sequence[Path], output: Path) -> Callable[[], None]:
    """TFRecord files of raw tensors."""
    import tensorflow as tf

    def feature(value: bytes) -> Any:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    def action() -> None:
        for start in range(0, len(files), ROWS_PER_FILE):
            with tf.io.TFRecordWriter(str(output / f"{start}.tfrecord")) as writer:
                for path, image in _decoded(files[start : start + ROWS_PER_FILE]):
                    label = tf.train.Feature(int64_list=tf.train.Int64List(value=[_label(path)]))
                    features = {"image": feature(image.tobytes()), "label": label, "id": feature(path.name.encode())}
                    writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())

    return action


def webdataset(files: Sequence[Path], output: Path) -> Callable[[], None]:
    """Tar files of `.npy` tensors."""
    import webdataset as wds

    def action() -> None:
        with wds.ShardWriter(str(output / "%05d.tar"), maxcount=ROWS_PER_FILE, verbose=0) as writer:
            for path, image in _decoded(files):
                writer.write({"__key__": path.stem, "npy": image, "cls": _label(path)})

    return action


def mosaic(files: Sequence[Path], output: Path) -> Callable[[], None]:
    """MDS files of raw tensors."""
    from streaming import MDSWriter

    columns = {"image": f"ndarray:uint8:{SIZE},{SIZE},3", "label": "int", "id": "str"}

    def action() -> None:
        with MDSWriter(out=str(output / "mds"), columns=columns, size_limit=ROWS_PER_FILE * SIZE * SIZE * 3) as writer:
            for path, image in _decoded(files):
                writer.write({"image": image, "label": _label(path), "id": path.name})

    return action


POOLED: dict[str, Worker] = {
    "limit": limit,
    "pillow": pillow,
    "tfrecord": tfrecord,
    "webdataset": webdataset,
    "mosaic": mosaic,
}


def with_pillow(data: bytes) -> NDArray[np.uint8]:
    """Pillow's full decode and antialiased bilinear resize of the square that `decode` keeps."""
    from PIL import Image

    image = Image.open(io.BytesIO(data)).convert("RGB")
    divisor = scale_divisor(min(image.size), SIZE)
    left, top, side = (value * divisor for value in centre_square(*image.size, divisor))
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box))


def psnr(files: Iterable[Path]) -> float:
    """Mean peak signal-to-noise ratio, in dB, of `decode` against Pillow."""
    values = []
    for path in files:
        data = path.read_bytes()
        error = np.mean((decode(data, SIZE).astype(np.float64) - with_pillow(data)) ** 2)
        values.append(10 * math.log10(255**2 / max(error, 1e-3)))
    return float(np.mean(values))


# Spark.


def write_hub(files: Sequence[Path], folder: Path) -> None:
    """Parquet files as on the Hugging Face hub: snappy, row groups of 100; does nothing if they are there."""
    if folder.exists():
        return
    folder.mkdir()
    names = sorted({path.parent.name for path in files})
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    total = -(-len(files) // HUB_ROWS)
    for number in range(total):
        part = files[number * HUB_ROWS : (number + 1) * HUB_ROWS]
        images = pa.array([{"bytes": path.read_bytes(), "path": path.name} for path in part])
        labels = pa.array([names.index(path.parent.name) for path in part])
        table = pa.table({"image": images, "label": labels}).replace_schema_metadata(metadata)
        pq.write_table(table, folder / f"train-{number:05}-of-{total:05}.parquet", row_group_size=100)


def _ours(source: Path, output: Path, cores: int, images: int | None = None) -> dict[str, Any]:
    from contextlib import contextmanager

    from preprocessing.common.spark_session import spark_context
    from preprocessing.job.prepare import Request
    from preprocessing.job.run import run as run_job
    from preprocessing.job.settings import Settings
    from preprocessing.job.spark_run import convert_all

    _prepare_spark(cores)
    with spark_context("benchmark") as context:
        # An empty job of the same shape: the JVM loads its classes, and a worker on every core its libraries.
        nothing = [Shard("train", number, 0, b"") for number in range(2 * cores)]
        convert_all(
            context,
            nothing,
            _convert_nothing,
            carefully=_convert_nothing,
            finished=[],
            recorded=lambda _: [],
            give_up=lambda _: None,
        )
        startup = time.time() - float(os.environ["BENCHMARK_STARTED"])
        warm_memory(output, images or len(list((source / "train").glob("*/*.JPEG"))))

        @contextmanager
        def running(_: str) -> Any:
            yield context

        with _Watch() as watch:
            manifest = run_job(Request(str(source), str(output / "dataset"), Settings(size=SIZE)), running)
    return {
        "images": manifest.images_in - manifest.rejected,
        "bytes": _bytes_below(output),
        "startup_s": startup,
        **watch.found(),
    }


def _import_all(_: object) -> str:
    """Imports what tasks need, and takes long enough for every core to start a Python worker."""
    import preprocessing.job.convert

    time.sleep(0.2)
    return preprocessing.job.convert.__name__


def _convert_nothing(shard: Shard) -> ShardRecord:
    _import_all(shard)
    zeros = (0, 0, 0)
    return ShardRecord(
        split=shard.split,
        index=shard.index,
        digest=shard.digest,
        images=0,
        file=None,
        class_counts={},
        pixel_sum=zeros,
        pixel_square_sum=zeros,
        rejected=[],
    )


def _petastorm(files: Sequence[Path], output: Path, cores: int) -> dict[str, Any]:
    from petastorm.codecs import CompressedImageCodec, ScalarCodec
    from petastorm.etl.dataset_metadata import materialize_dataset
    from petastorm.unischema import Unischema, UnischemaField, dict_to_spark_row
    from pyspark.sql import SparkSession
    from pyspark.sql.types import StringType

    _prepare_spark(cores, memory="4g")
    spark = SparkSession.builder.appName("petastorm").getOrCreate()
    schema = Unischema(
        "ImagenetSchema",
        [
            UnischemaField("noun_id", np.str_, (), ScalarCodec(StringType()), False),
            UnischemaField("image", np.uint8, (SIZE, SIZE, 3), CompressedImageCodec("png"), False),
        ],
    )

    def to_row(path: str) -> Any:
        cv2.setNumThreads(1)
        image = cv2.imread(path)
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        square = image[top : top + side, left : left + side]
        resized = cv2.resize(square, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        return dict_to_spark_row(schema, {"noun_id": Path(path).parent.name, "image": resized})

    spark.sparkContext.parallelize(range(2 * cores), 2 * cores).map(_import_all).collect()
    url = (output / "petastorm").as_uri()
    warm_memory(output, len(files))
    with _Watch() as watch, materialize_dataset(spark, url, schema, 256):
        rows = spark.sparkContext.parallelize([str(path) for path in files], 16).map(to_row)
        spark.createDataFrame(rows, schema.as_spark_schema()).write.option("compression", "none").parquet(url)
    found = {"images": len(files), "bytes": _bytes_below(output), **watch.found()}
    spark.stop()
    return {name: value for name, value in found.items() if name != "task_rss_mb"}


def _prepare_spark(cores: int, memory: str = "512m") -> None:
    """Sets the options with which pyspark starts the JVM: the properties that users run with, on so many cores."""
    properties = ROOT / "conf" / "spark" / "local.conf"
    os.environ["PYSPARK_SUBMIT_ARGS"] = (
        f"--properties-file {properties} --master local[{cores}] --driver-memory {memory} pyspark-shell"
    )


class _Watch:
    """Wall time, processor time of this process and all below it, and the largest peak memory of a Python worker."""

    def __enter__(self) -> _Watch:
        self._cpu = _tree_cpu()
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._seconds = time.perf_counter() - self._started
        self._cpu = _tree_cpu() - self._cpu
        self._peak = max((_peak_bytes(child) for child in psutil.Process().children(recursive=True)), default=0)

    def found(self) -> dict[str, Any]:
        return {"seconds": self._seconds, "cpu_seconds": self._cpu, "task_rss_mb": self._peak / 2**20}


def _peak_bytes(process: psutil.Process) -> int:
    """Peak memory of a Python worker of Spark, from the kernel: sampling would cost a tenth of a core."""
    try:
        if "pyspark.daemon" not in process.cmdline():
            return 0
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except (OSError, psutil.Error):
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _tree_cpu() -> float:
    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _decoded(files: Sequence[Path]) -> Iterable[tuple[Path, NDArray[np.uint8]]]:
    for path in files:
        yield path, decode(path.read_bytes(), SIZE)


def _label(path: Path) -> int:
    return int(path.parent.name[1:])


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
