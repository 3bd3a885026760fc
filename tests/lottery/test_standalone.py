"""A network as a file that plain Keras opens: it gives, on raw images, the accuracy that the sweep recorded."""

from __future__ import annotations

import numpy as np
import pytest

from lottery.experiment.sections import Data, Model
from lottery.models.registry import MODELS
from lottery.run.dataset_record import DatasetRecord
from lottery.tickets import masks
from tests.lottery.plain_keras import accuracies
from tests.lottery.small_training import config, evaluate, strategy

IMAGES = 96
# Small forms of the models, at the smallest size that each of them takes.
SMALL = {
    "conv2": (16, {"width": 4}),
    "conv4": (16, {"width": 4}),
    "conv6": (16, {"width": 4}),
    "conv_small": (8, {}),
    "lenet_300_100": (10, {}),
    "mobilenet_v2": (32, {"alpha": 0.35}),
    "resnet8": (12, {"width": 4}),
    "resnet18": (12, {"width": 4}),
    "resnet20": (12, {"width": 4}),
    "resnet50": (32, {"width": 4}),
    "vgg16": (32, {"width": 4}),
}
QUICK = ("conv_small", "lenet_300_100", "resnet8")


def dataset(size):
    """Of images that are larger than the crop by an odd number, with a channel that is constant."""
    classes = tuple(f"class {number}" for number in range(10))
    return DatasetRecord("a place", "0" * 64, size + 3, classes, (120.3, 110.7, 99.1), (55.5, 61.3, 0.0))


def trained_state(trainer, seed=1):
    """A ticket's state with all kinds of variables off their first values."""
    random, state = np.random.default_rng(seed), trainer.first_state(seed)
    (mask,) = masks.global_magnitude_masks({path: state[path] for path in trainer.kernels}, [0.3])
    for path, value in state.items():
        if path in mask:
            state[path] = value * mask[path]
        elif path.endswith("moving_variance"):
            state[path] = random.uniform(0.5, 2, value.shape).astype(np.float32)
        elif path.rsplit("/", 1)[-1] in ("bias", "beta", "gamma", "moving_mean"):
            state[path] = (value + random.normal(scale=0.3, size=value.shape)).astype(np.float32)
    return state


def exported(tmp_path, name, precision="float32"):
    """Writes a model's file and images beside it; returns both, and the accuracy that a sweep would have recorded."""
    from lottery.models.standalone import foreign_classes, standalone
    from lottery.training.trainer import Trainer
    from lottery.worker.ticket_export import trained_network

    side, options = SMALL[name]
    experiment = config(model=Model(name, options), precision=precision)
    experiment = type(experiment)(
        **{**{key: getattr(experiment, key) for key in experiment.__struct_fields__}, "data": Data(batch=32, crop=side)}
    )
    record = dataset(side)
    trainer = Trainer(experiment, (side, side, 3), 10, record.mean, record.std, strategy(1))
    state, random = trained_state(trainer), np.random.default_rng(2)
    images = random.integers(0, 256, (IMAGES, record.size, record.size, 3), np.uint8)
    cropped = images[:, 1 : 1 + side, 1 : 1 + side]
    guesses = random.integers(0, 10, IMAGES).astype(np.int32)
    network = trained_network(experiment, record, state, precision)
    model = standalone(network, record.size, side, record.mean, record.std)
    # Half of the labels are right, so that an image that is classified in another way changes the accuracy.
    labels = np.where(np.arange(IMAGES) % 2, model.predict(images, verbose=0).argmax(-1), guesses).astype(np.int32)
    scores = evaluate(trainer, state, [(cropped, labels)])
    file, data = tmp_path / f"{name}-{precision}.keras", tmp_path / f"{name}-{precision}.npz"
    model.save(file)
    np.savez(data, images=images, labels=labels)
    assert foreign_classes(model) == []
    return (file, data), scores.top1


def check(tmp_path, *models):
    made = [exported(tmp_path, *model) for model in models]
    recorded = [top1 for _, top1 in made]
    assert min(recorded) > 0.5
    assert accuracies([files for files, _ in made], tmp_path) == pytest.approx(recorded, abs=1e-6)


def test_plain_keras_gives_the_recorded_accuracy(tensorflow, tmp_path):
    check(tmp_path, *((name,) for name in QUICK))


@pytest.mark.cluster
def test_plain_keras_gives_the_recorded_accuracy_of_every_model(tensorflow, tmp_path):
    assert SMALL.keys() == MODELS.keys()
    check(tmp_path, *((name,) for name in MODELS if name not in QUICK), ("resnet8", "mixed_bfloat16"))


def test_logits_are_float32_whatever_the_layers_compute_in(tensorflow, tmp_path):
    check(tmp_path, ("conv_small", "mixed_float16"))


def test_a_layer_of_this_package_is_no_part_of_the_file(tensorflow):
    from lottery.models import build
    from lottery.models.standalone import foreign_classes, standalone

    network = build.build(Model("lenet_300_100"), (8, 8, 3), 10, 0)
    assert [kind.__module__ for kind in foreign_classes(network)] == ["lottery.architectures.small"]
    assert foreign_classes(standalone(network, 8, 8, (0.0,) * 3, (1.0,) * 3)) == []


def test_a_users_own_class_is_named(tensorflow):
    from lottery.models import build
    from lottery.models.standalone import foreign_classes, standalone

    network = build.build(Model("tests.lottery.own_models:subclassed"), (8, 8, 3), 10, 0)
    model = standalone(network, 8, 8, (0.0,) * 3, (1.0,) * 3)
    assert [kind.__qualname__ for kind in foreign_classes(model)] == ["Subclassed"]
