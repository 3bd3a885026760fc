"""One contender of `benchmarks.input`, measured in this process. Each is an endless stream of batches."""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from lottery.input.order import epoch_order
from preprocessing.dataset.opening import Dataset

CROP = 224
IMAGENET_IMAGES = 1_281_167
RESIZED = {"crop": CROP, "flip": True, "crop_scale": (0.08, 1.0), "colour": 0.4}
_WARM_UP_SECONDS = 1.0

Stream = Iterator[int]  # how many images each batch has; the batch itself is dropped


def limit(request: dict[str, Any], dataset: Dataset) -> Stream:
    """The files as they are, read into memory that is used again, and copied to where a batch lies; a thread a core."""
    size = request["batch"] * dataset.size**2 * 3
    names = [file.name for file in dataset.splits[request["split"]].files]
    local = threading.local()

    def copy_file(name: str) -> int:
        if not hasattr(local, "memory"):
            local.memory = np.empty(size, np.uint8), np.zeros(size, np.uint8)
        source, batch = local.memory
        images = 0
        with (Path(dataset.uri) / name).open("rb", buffering=0) as file:
            while file.readinto(source) == size:
                batch[:] = source
                images += request["batch"]
        return images

    with ThreadPoolExecutor(len(request["cores"])) as pool:
        waiting = deque(pool.submit(copy_file, name) for name in names * 2)
        for name in itertools.cycle(names):
            yield waiting.popleft().result()
            waiting.append(pool.submit(copy_file, name))


def ours(request: dict[str, Any], dataset: Dataset, mapped: bool = True, **data: Any) -> Stream:
    """Our stream, a run ahead as in training; with a crop, normalised as the compiled step does it."""
    import tensorflow as tf

    from lottery.experiment.sections import Data, Input
    from lottery.input.training_batches import TrainingInput
    from lottery.worker.one_ahead import one_ahead

    settings = Input(shuffle_window="all" if mapped else 4)
    options = Data(batch=request["batch"], train=request["split"], **data)
    source = TrainingInput(dataset, options, 0, settings, mapped=mapped)
    normalise = _normaliser(tf, dataset) if data else None
    for images, _ in one_ahead(source.stream([(step, step + 1) for step in range(100_000)])):
        if normalise is not None:
            normalise(images)
        yield request["batch"]


def tfrecord(request: dict[str, Any], dataset: Dataset, augmented: bool = False) -> Stream:
    """TFRecord as its documentation has it; a batch is a tensor of uint8, or with tf.image's operations of float32."""
    import tensorflow as tf

    files = sorted(map(str, Path(request["folder"]).glob("*.tfrecord")))
    features = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}
    mean, std = tf.constant(dataset.mean, tf.float32), tf.constant(dataset.std, tf.float32)

    def parse(example: Any) -> Any:
        row = tf.io.parse_single_example(example, features)
        image = tf.reshape(tf.io.decode_raw(row["image"], tf.uint8), [dataset.size, dataset.size, 3])
        if augmented:
            image = tf.image.random_flip_left_right(tf.image.random_crop(image, [CROP, CROP, 3]))
            image = (tf.cast(image, tf.float32) - mean) / std
        return image, row["label"]

    rows = tf.data.TFRecordDataset(files, buffer_size=8 << 20).repeat().map(parse, tf.data.AUTOTUNE)
    return _drain(rows.batch(request["batch"]).prefetch(tf.data.AUTOTUNE))


def petastorm(request: dict[str, Any], dataset: Dataset) -> Stream:
    """Petastorm's TensorFlow dataset over a reader of one thread."""
    from petastorm import make_reader
    from petastorm.tf_utils import make_petastorm_dataset

    url = (Path(dataset.uri) / request["split"]).as_uri()
    with make_reader(url, reader_pool_type="thread", workers_count=1, num_epochs=None) as reader:
        yield from _drain(
            make_petastorm_dataset(reader).map(lambda row: (row.image, row.label)).batch(request["batch"])
        )


def webdataset(request: dict[str, Any], dataset: Dataset) -> Stream:
    """webdataset's tars, decoded to arrays, stacked, and handed to TensorFlow."""
    import tensorflow as tf
    import webdataset as wds

    shape = dataset.size, dataset.size, 3

    def decode(row: dict[str, bytes]) -> Any:
        return np.frombuffer(row["image"], np.uint8).reshape(shape), np.frombuffer(row["label"], "<i4")[0]

    files = sorted(map(str, Path(request["folder"]).glob("*.tar")))
    while True:
        rows = wds.WebDataset(files, shardshuffle=False, empty_check=False).map(decode)
        for images, _ in rows.batched(request["batch"], partial=False):
            tf.convert_to_tensor(images)
            yield request["batch"]


CONTENDERS: dict[str, Callable[[dict[str, Any], Dataset], Stream]] = {
    "limit": limit,
    "limit_2": limit,
    "mapped": ours,
    "general": lambda request, dataset: ours(request, dataset, mapped=False),
    "augmented": lambda request, dataset: ours(request, dataset, crop=CROP, flip=True),
    "augmented_2": lambda request, dataset: ours(request, dataset, crop=CROP, flip=True),
    "augmented_apart": lambda request, dataset: ours(request, dataset, crop=CROP, flip=True),
    "resized": lambda request, dataset: ours(request, dataset, **RESIZED),
    "resized_2": lambda request, dataset: ours(request, dataset, **RESIZED),
    "resized_apart": lambda request, dataset: ours(request, dataset, **RESIZED),
    "tfrecord": tfrecord,
    "tfrecord_augmented": lambda request, dataset: tfrecord(request, dataset, augmented=True),
    "petastorm": petastorm,
    "webdataset": webdataset,
}


def measure(stream: Stream, seconds: float) -> dict[str, float]:
    """Images a second, and a second of all threads' processor time, after a warm-up; resident memory, less files'."""
    _run(stream, _WARM_UP_SECONDS)
    images, wall, cpu = _run(stream, seconds)
    memory = [process.memory_info() for process in _processes()]
    return {
        "per_second": round(images / wall, 1),
        "per_cpu_second": round(images / cpu, 1),
        "resident_mb": round(sum(each.rss - each.shared for each in memory) / 1e6, 1),
    }


def _run(stream: Stream, seconds: float) -> tuple[int, float, float]:
    wall, cpu, images = time.perf_counter(), _cpu_seconds(), 0
    while time.perf_counter() - wall < seconds:
        images += next(stream)
    return images, time.perf_counter() - wall, _cpu_seconds() - cpu


def _processes() -> list[psutil.Process]:
    """This process and those that it has started."""
    return [psutil.Process(), *psutil.Process().children(recursive=True)]


def _cpu_seconds() -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in _processes()))


def time_resume(request: dict[str, Any], dataset: Dataset) -> float:
    """Seconds from nothing to the first batch of a step far on, in the order of as many images as ImageNet has."""
    from lottery.experiment.sections import Data
    from lottery.input import training_batches, training_steps

    training_steps.sample_order = _order_of_imagenet  # type: ignore[assignment]
    started = time.perf_counter()
    source = training_batches.TrainingInput(dataset, Data(batch=request["batch"], train=request["split"], crop=CROP), 0)
    next(source.stream([(1_000_000, 1_000_001)]))
    return time.perf_counter() - started


def _order_of_imagenet(dataset_hash: str, seed: int, epoch: int, starts: Any, window: Any) -> Any:
    """The order of a dataset with ImageNet's count, its rows folded into those that there are."""
    return epoch_order(dataset_hash, seed, epoch, IMAGENET_IMAGES) % int(starts[-1])


def _normaliser(tf: Any, dataset: Dataset) -> Callable[[Any], Any]:
    mean, scale = np.array(dataset.mean, np.float32), 1 / np.array(dataset.std, np.float32)

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def normalise(images: Any) -> Any:
        return (tf.cast(images, tf.float32) - mean) * scale

    return normalise  # type: ignore[no-any-return]


def _drain(dataset: Any) -> Stream:
    for images, _ in dataset:
        yield int(images.shape[0])


def main() -> None:
    """Measures what the request, JSON in the first argument, names."""
    request = json.loads(sys.argv[1])
    os.sched_setaffinity(0, request["cores"])
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if not request["name"].startswith("limit"):
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(len(request["cores"]))
        tf.config.threading.set_inter_op_parallelism_threads(len(request["cores"]))
    dataset = Dataset.open(request["dataset"])
    if request["name"] == "resume":
        found = {"resume_s": round(time_resume(request, dataset), 3)}
    else:
        found = measure(CONTENDERS[request["name"]](request, dataset), request["seconds"])
    print(json.dumps(found), flush=True)
    os._exit(0)  # without the threads' long way out


if __name__ == "__main__":
    main()
