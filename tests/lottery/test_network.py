"""Forward passes of any state: the trainer's scores, predictions, and statistics of batch norm taken anew."""

import numpy as np
import pytest

from lottery.experiment.sections import Model
from preprocessing.common.errors import InputError
from tests.lottery.small_training import BATCH, CLASSES, SHAPE, arrays, batches, config, evaluate, rates, trainer

BATCH_NORM = Model("tests.lottery.own_models:with_batch_norm")
MOMENTS = (100.0,) * 3, (50.0,) * 3


@pytest.fixture(scope="module")
def trained(tensorflow):
    """(experiment, state after a few steps) of a model with batch norm."""
    chosen = config(model=BATCH_NORM)
    made = trainer(tensorflow, chosen)
    made.run(*batches(6), rates(6))
    return chosen, made, arrays(made.state())


@pytest.fixture(scope="module")
def network(trained):
    from lottery.training.network import Network

    return Network(trained[0], SHAPE, CLASSES, MOMENTS)


def check(sums, expected):
    """Sums over batches may differ in their last bits: the trainer compiles other graphs."""
    from lottery.training.scores import means

    found = means(sums)
    assert (found.top1, found.top5) == (expected.top1, expected.top5)
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)


def on_device(network, state):
    from lottery.training.network import on_device

    return on_device(network.arrays(state, "the file", "delete it"))


def test_scores_are_those_of_the_trainer(trained, network):
    _, made, state = trained
    seen = list(zip(*batches(3, seed=1), strict=True))
    total = sum(network.sums(on_device(network, state), images, labels)[0] for images, labels in seen)
    check(total, evaluate(made, state, seen))


def test_predictions_are_right_as_often_as_the_score_says(trained, network):
    _, made, state = trained
    images, labels = (part[0] for part in batches(1, seed=2))
    found, _ = network.classes(on_device(network, state), images)
    assert found.shape == (BATCH,)
    assert np.mean(found == labels) == evaluate(made, state, [(images, labels)]).top1


def test_a_network_that_is_not_finite_predicts_nothing(trained, network):
    broken = {path: value * np.nan if path.endswith("bias") else value for path, value in trained[2].items()}
    found, _ = network.classes(on_device(network, broken), batches(1)[0][0])
    assert set(found.tolist()) == {-1}


def test_statistics_taken_anew_are_the_means_of_the_batches_own(trained, network):
    state = trained[2]
    images = batches(3, seed=3)[0]
    found = network.renormalised(on_device(network, state), images)
    changed = {path for path in found if not np.array_equal(found[path], state[path])}
    assert changed
    assert all("moving" in path for path in changed)
    parts = [network.renormalised(on_device(network, state), [batch]) for batch in images]
    for path in changed:
        assert found[path].numpy() == pytest.approx(np.mean([part[path].numpy() for part in parts], axis=0), rel=1e-5)


def test_statistics_are_those_of_the_batch_that_comes_in(tensorflow):
    import keras

    from lottery.models.build import build
    from lottery.training.network import Network

    chosen = config(model=BATCH_NORM)
    model = build(chosen.model, SHAPE, CLASSES, seed=3)
    state = {variable.path: variable.numpy() for variable in model.variables}
    images = batches(1, seed=5)[0][0]
    norm = model.get_layer("bn")
    before = keras.Model(model.inputs[0], norm.input)((images.astype(np.float32) - 100) / 50).numpy()
    network = Network(chosen, SHAPE, CLASSES, MOMENTS)
    found = network.renormalised(on_device(network, state), [images])
    assert found[norm.moving_mean.path].numpy() == pytest.approx(before.mean(axis=(0, 1, 2)), abs=1e-5)
    assert found[norm.moving_variance.path].numpy() == pytest.approx(before.var(axis=(0, 1, 2)), rel=1e-4)


def test_noise_that_a_model_draws_is_that_of_the_trainer(tensorflow):
    from lottery.training.network import Network

    chosen = config(model=Model("tests.lottery.own_models:noise_in_evaluation"))
    made = trainer(tensorflow, chosen)
    network = Network(chosen, SHAPE, CLASSES, MOMENTS)
    state, seen = arrays(made.state()), list(zip(*batches(3, seed=1), strict=True))
    variables, total = on_device(network, state), 0.0
    for images, labels in seen:
        sums, variables = network.sums(variables, images, labels)
        total = total + sums
    check(total, evaluate(made, state, seen))
    assert not network.has_statistics


@pytest.mark.parametrize("synchronized", [False, True])
def test_its_model_is_the_trainers(tensorflow, synchronized):
    from lottery.training.network import Network

    chosen = config(model=BATCH_NORM, synchronized_batch_norm=synchronized)
    there = trainer(tensorflow, chosen).provenance()
    assert Network(chosen, SHAPE, CLASSES, MOMENTS).provenance.model == there.model


def test_a_state_of_another_model_is_named_by_its_file(trained, network):
    state = {path: value for path, value in trained[2].items() if not path.endswith("bias")}
    with pytest.raises(InputError, match=r"has .*bias of shape .*, the file has not; .* delete it") as raised:
        network.arrays(state, "the file", "delete it")
    assert type(raised.value) is InputError
