"""Augmentation on the device: the crops of the host, and the same bits whoever asks and however it is cut up."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lottery.experiment.sections import Data, Input
from lottery.input import augment
from lottery.run.run_directory import DENSE
from preprocessing.dataset.opening import Dataset
from tests.lottery.datasets import local_dataset
from tests.lottery.worker_runs import equal, final

pytestmark = pytest.mark.usefixtures("tensorflow")

EVERYTHING = {"batch": 12, "crop": 11, "flip": True, "crop_scale": (0.2, 1.0), "colour": 0.3}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    uri, _ = local_dataset(tmp_path_factory.mktemp("tensors"))
    return Dataset.open(uri)


def pictures(count, size, seed):
    """Noise of several wavelengths, as photographs have."""
    random = np.random.default_rng(seed)
    images = np.zeros((count, size, size, 3), np.float32)
    for cells in (2, 5, size):
        for image in images:
            image += cv2.resize(random.normal(0, 40, (cells, cells, 3)).astype(np.float32), (size, size))
    return np.clip(images + 128, 0, 255).astype(np.uint8)


def on_host(images, crops, side):
    out = np.empty((len(images), side, side, 3), np.uint8)
    for index, image in enumerate(images):
        crops.apply(index, image, out[index])
    return out


def on_device(images, crops, side):
    from lottery.input.device_augment import augment_batch

    return augment_batch(images, crops.boxes, crops.flipped, crops.colour_factors, side=side).numpy()


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(2, 70),
    crop=st.integers(1, 70),
    flip=st.booleans(),
    scale=st.sampled_from([(0.08, 1.0), (1.0, 1.0), (0.5, 0.6)]),
    colour=st.sampled_from([0.0, 0.4]),
    seed=st.integers(0, 9),
)
def test_pixels_are_those_of_the_host(size, crop, flip, scale, colour, seed):
    data = Data(batch=6, crop=min(crop, size), flip=flip, crop_scale=scale, colour=colour)
    crops = augment.training_crops(data, size, seed, 2, 3)
    images = pictures(6, size, seed)
    host, device = (make(images, crops, data.crop) for make in (on_host, on_device))
    differences = np.abs(host.astype(int) - device)
    assert differences.mean() <= 0.5
    assert differences.max() <= (4 if colour else 1)  # colours stretch a difference of 1 from rounding


@settings(max_examples=30, deadline=None)
@given(size=st.integers(6, 40), pad=st.integers(0, 4), flip=st.booleans(), seed=st.integers(0, 5))
def test_a_plain_crop_is_the_hosts_to_the_bit(size, pad, flip, seed):
    data = Data(batch=6, crop=size - 1, pad=pad, flip=flip)
    crops = augment.training_crops(data, size, seed, 0, 0)
    images = np.random.default_rng(seed).integers(0, 256, (6, size, size, 3), dtype=np.uint8)
    assert np.array_equal(on_host(images, crops, size - 1), on_device(images, crops, size - 1))


def training_input(dataset, **options):
    from lottery.input.training_batches import TrainingInput

    data = {**EVERYTHING, **options.pop("data", {})}
    return TrainingInput(dataset, Data(**data), 1, Input(threads=2), **options)


def augmented(source, runs):
    pieces = zip(source.stream(runs), runs, strict=True)
    return np.concatenate([source.augment(images, *run).numpy() for (images, _), run in pieces])


def test_any_start_run_and_worker_give_the_same_bits(dataset):
    """Over the end of an epoch, which has 8 steps."""
    whole = augmented(training_input(dataset, data={"augment": "device"}), [(5, 11)])
    assert whole.shape == (6, 12, 11, 11, 3)
    again = augmented(training_input(dataset, data={"augment": "device"}), [(5, 6), (6, 9), (9, 11)])
    assert np.array_equal(again, whole)
    parts = [
        augmented(training_input(dataset, data={"augment": "device"}, worker=worker, workers=3), [(5, 8), (8, 11)])
        for worker in range(3)
    ]
    assert np.array_equal(np.concatenate(parts, axis=1), whole)


def test_the_crops_are_those_of_the_host(dataset):
    """The images are noise, so that any other crop would be far off."""
    host = augmented(training_input(dataset), [(5, 11)])
    device = augmented(training_input(dataset, data={"augment": "device"}), [(5, 11)])
    assert np.abs(host.astype(int) - device).mean() <= 0.5


def test_several_devices_share_a_batch(dataset, tensorflow, monkeypatch):
    source = training_input(dataset, data={"augment": "device"})
    one = augmented(source, [(0, 3)])
    cpus = tensorflow.config.list_logical_devices("CPU")
    assert len(cpus) > 1
    monkeypatch.setattr(tensorflow.config, "list_logical_devices", lambda kind: cpus)
    assert np.array_equal(augmented(source, [(0, 3)]), one)


PLAIN = ("data.crop=6", "data.pad=1", "data.flip=true", "training.length=1ep", "trellis=[0ep]")
SCALED = ("data.crop=6", "data.crop_scale=[0.2, 1]", "data.colour=0.3", "training.length=1ep", "trellis=[0ep]")
RATE = "training.learning_rate={peak: 0.01}"


def after_training(small, worker, devices, where, *overrides):
    sweep = small(f"data.augment={where}", RATE, *overrides, runs=f"{where}-{devices}")
    worker(sweep, devices=devices).train_dense()
    return final(sweep, DENSE)


def test_two_replicas_train_on_the_crops_of_the_host(small, worker):
    """Plain crops are the host's to the bit, and so is all that is trained on them."""
    host, device = (after_training(small, worker, 2, where, *PLAIN) for where in ("host", "device"))
    assert equal(host, device)


def test_two_replicas_train_on_the_crops_of_one(small, worker):
    """What is trained on them differs by the order of sums alone."""
    one, two = (after_training(small, worker, devices, "device", *SCALED) for devices in (1, 2))
    host = after_training(small, worker, 1, "host", *SCALED)
    differences = [max(np.abs(value - other[path]).max() for path, value in one.items()) for other in (two, host)]
    assert differences[0] < 1e-5 < differences[1]


def test_without_a_crop_whole_images_are_mirrored(dataset):
    source = training_input(
        dataset, data={"augment": "device", "crop": None, "crop_scale": None, "colour": 0.0, "flip": True}
    )
    (images, _), *_ = source.stream([(0, 1)])
    found = source.augment(images, 0, 1).numpy()[0]
    whole = images.numpy()[0]
    mirrored = [not np.array_equal(one, other) for one, other in zip(found, whole, strict=True)]
    assert 0 < sum(mirrored) < 12
    expected = [image[:, ::-1] if flip else image for image, flip in zip(whole, mirrored, strict=True)]
    assert np.array_equal(found, expected)


def test_a_gpu_need_not_hand_images_back_to_the_host(tensorflow):
    """GPUs have no kernels for lists of uint8, so TensorFlow would place these on the host, and copy whole batches."""
    from lottery.input.device_augment import _compiled

    compiled = _compiled(("/cpu:0",), (4, 16, 16, 3), 8, 3).get_concrete_function().graph.as_graph_def()
    nodes = [*compiled.node, *(node for function in compiled.library.function for node in function.node_def)]
    lists = [node for node in nodes if node.op.startswith("TensorList")]
    assert lists
    assert not [node.name for node in lists if node.attr["element_dtype"].type == tensorflow.uint8.as_datatype_enum]
