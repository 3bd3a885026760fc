"""Tickets of one mask that take turns in a trainer, for every shipped model."""

import numpy as np
import pytest
from msgspec.structs import replace

from lottery.experiment.sections import Data, Model
from lottery.models.registry import MODELS
from lottery.tickets import masks
from tests.lottery.small_training import CLASSES, arrays, config, rates, same, strategy

TINY = {
    "conv2": (8, {"width": 4}),
    "conv4": (8, {"width": 4}),
    "conv6": (8, {"width": 4}),
    "conv_small": (8, {"filters": 4, "units": 8}),
    "lenet_300_100": (8, {"dropout": 0.2}),
    "mobilenet_v2": (32, {"alpha": 0.35}),
    "resnet8": (8, {"width": 4}),
    "resnet18": (8, {"width": 4}),
    "resnet20": (8, {"width": 4}),
    "resnet50": (32, {"width": 4}),
    "vgg16": (16, {"width": 4}),
}


@pytest.mark.parametrize("name", MODELS)
def test_tickets_in_turns_equal_each_alone(tensorflow, name):
    from lottery.training.trainer import Trainer

    side, options = TINY[name]
    chosen = replace(config(model=Model(name, options)), data=Data(batch=2))
    trained = Trainer(chosen, (side, side, 3), CLASSES, (100.0,) * 3, (50.0,) * 3, strategy(1))
    random = np.random.default_rng(0)
    images = random.integers(256, size=(2, 2, side, side, 3)).astype(np.uint8)
    labels = random.integers(CLASSES, size=(2, 2)).astype(np.int32)
    tickets = []
    for seed, density in ((0, 0.5), (1, 0.2)):
        start = trained.first_state(seed)
        (mask,) = masks.global_magnitude_masks({path: start[path] for path in trained.kernels}, [density])
        start |= {path: start[path] * kept for path, kept in mask.items()}
        tickets.append((start, mask))
    alone = []
    for start, mask in tickets:
        trained.load(start, mask)
        trained.run(images, labels, rates(2, 0.01))
        alone.append(arrays(trained.state()))
    together = [start for start, _ in tickets]
    for step in range(2):
        for place, (_, mask) in enumerate(tickets):
            trained.load(together[place], mask)
            trained.run(images[step : step + 1], labels[step : step + 1], rates(1, 0.01))
            together[place] = trained.state()
    for before, after, (start, mask) in zip(alone, map(arrays, together), tickets, strict=True):
        assert same(before, after)
        assert any(not np.array_equal(after[path], start[path]) for path in mask)
        assert not any(after[path][~kept].any() for path, kept in mask.items())
