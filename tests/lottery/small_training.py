"""A small model, experiment and batches, for tests of the compiled step."""

from __future__ import annotations

from functools import cache

import numpy as np

from lottery.experiment import sections
from lottery.experiment.config import Experiment
from lottery.experiment.sections import Data, LearningRate, Masks, Model, Training
from lottery.tickets import masks
from lottery.tickets.start_state import start_state

SHAPE = (8, 8, 3)
CLASSES = 4
BATCH = 8
OPTIMIZERS = {
    "sgd": sections.SGD(),
    "momentum": sections.SGD(momentum=0.9),
    "nesterov": sections.SGD(momentum=0.9, nesterov=True),
    "adam": sections.Adam(),
    "adamw": sections.AdamW(),
}


SMALL = Model("conv_small", {"filters": 4, "units": 16})


def config(optimizer="momentum", model=SMALL, **training):
    return Experiment(
        name="tiny",
        data=Data(batch=BATCH),
        model=model,
        training=Training(
            length=20,
            optimizer=OPTIMIZERS[optimizer],
            learning_rate=LearningRate(0.05),
            **{"weight_decay": 1e-2, **training},
        ),
        trellis=(0,),
        masks=Masks((0.5,)),
    )


@cache
def strategy(devices):
    """Shared by all tests: a second MirroredStrategy in a process would reuse the first one's collective keys."""
    import tensorflow as tf

    names = [f"/cpu:{index}" for index in range(devices)]
    return tf.distribute.OneDeviceStrategy(names[0]) if devices == 1 else tf.distribute.MirroredStrategy(names)


def trainer(tensorflow, chosen, devices=1):
    from lottery.training.trainer import Trainer

    return Trainer(chosen, SHAPE, CLASSES, (100.0,) * 3, (50.0,) * 3, strategy(devices))


def batches(steps, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(CLASSES, size=(steps, BATCH)).astype(np.int32)
    images = random.integers(100, size=(steps, BATCH, *SHAPE)) + 40 * labels[..., None, None, None]
    return images.astype(np.uint8), labels


def rates(steps, rate=0.05):
    return np.full(steps, rate, np.float32)


def arrays(state):
    return {path: np.asarray(value) for path, value in state.items()}


def same(one, other):
    return all(np.array_equal(one[path], other[path]) for path in one) and one.keys() == other.keys()


def masked_start(trained, state, density=0.3):
    kernels = {path: np.asarray(state[path]) for path in trained.kernels}
    (mask,) = masks.global_magnitude_masks(kernels, [density])
    slots = {kernel: trained.slots(kernel) for kernel in mask}
    return start_state(arrays(state), mask, slots), mask


def evaluate(trained, state, batches):
    from lottery.training.evaluation import evaluate

    (found,) = evaluate(trained, [state], batches)
    return found.scores
