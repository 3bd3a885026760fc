"""Every shipped experiment loads, fits its dataset, and shrinks to a minute."""

import pytest

from lottery.experiment import config, schedules, smoke
from lottery.experiment.steps import timeline
from lottery.tickets.tickets import all_tickets
from tests.lottery.paths import CONF

SHIPPED = sorted(path.name for path in CONF.glob("*.yaml"))
# Training images, and tickets and controls in all.
FITS = {
    "digits.yaml": (1_437, 120),
    "cifar10-resnet20.yaml": (45_000, 120),
    "cifar10-resnet20-iterative.yaml": (45_000, 63),
    "fashion-resnet20.yaml": (55_000, 12),
    "imagenet-mobilenet_v2.yaml": (1_271_167, 120),
    "imagenet-resnet50.yaml": (1_271_167, 25),
    "mnist-lenet.yaml": (55_000, 40),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_experiment_fits_its_dataset(name):
    shipped = config.load(str(CONF / name))
    images, trainings = FITS[name]
    line = timeline(shipped, images)
    schedules.check(shipped.training.learning_rate, line.steps_per_epoch, line.total)
    assert shipped.name == name.removesuffix(".yaml")
    assert len(all_tickets(shipped, line)) == trainings


@pytest.mark.parametrize("name", SHIPPED)
def test_smoke_keeps_the_kinds_and_shrinks_the_numbers(name):
    shipped = config.load(str(CONF / name))
    small = smoke.shrink(shipped)
    line = timeline(small, 100)
    schedules.check(small.training.learning_rate, line.steps_per_epoch, line.total)
    assert line.total <= 10
    assert small.data.batch <= 16
    assert small.data.crop is None or small.data.crop <= 32
    assert small.training.evaluate_batches is not None
    assert 4 <= len(all_tickets(small, line)) <= 10
    assert (small.model, small.training.optimizer, small.training.precision) == (
        shipped.model,
        shipped.training.optimizer,
        shipped.training.precision,
    )
    assert small.training.learning_rate.decay == shipped.training.learning_rate.decay
    assert small.tickets.controls == shipped.tickets.controls
    assert small.gang == shipped.gang
    assert config.identity(small, "") != config.identity(shipped, "")
    assert config.from_tree(config.to_tree(small), "a test") == small


def test_smoke_of_a_smoke_is_the_same_work():
    small = smoke.shrink(config.load(str(CONF / "digits.yaml")))
    again = smoke.shrink(small)
    assert len(all_tickets(again, timeline(again, 100))) == len(all_tickets(small, timeline(small, 100)))
