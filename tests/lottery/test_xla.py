"""A step that XLA compiles gives the same results within a tolerance, the same zeros, and the same bits each time."""

import numpy as np
import pytest

from lottery.experiment import config as experiment
from lottery.experiment.sections import Model
from tests.lottery.small_training import arrays, batches, config, masked_start, rates, same, trainer

TOLERANCE = 1e-4  # of weights, statistics and slots after a few steps; their largest are around 1
BATCH_NORM = Model("tests.lottery.own_models:with_batch_norm")
RESNET = Model("resnet20", {"width": 4})


@pytest.mark.parametrize(("model", "devices"), [(BATCH_NORM, 1), (BATCH_NORM, 2), (RESNET, 1)])
def test_xla_gives_equal_results_and_exact_masks(tensorflow, model, devices):
    plain, compiled = (trainer(tensorflow, config(model=model, compile=how), devices) for how in (None, "xla"))
    start, mask = masked_start(plain, plain.first_state(0))
    images, labels = batches(4)
    for trained in (plain, compiled):
        trained.load(start, mask)
    assert np.allclose(*(trained.run(images, labels, rates(4, 0.01)) for trained in (plain, compiled)), atol=TOLERANCE)
    ours, theirs = arrays(compiled.state()), arrays(plain.state())
    for path in theirs:
        assert np.allclose(ours[path], theirs[path], atol=TOLERANCE), path
    assert not same(ours, theirs)  # else XLA was not asked
    for kernel, kept in mask.items():
        for path in (kernel, *compiled.slots(kernel)):
            assert not ours[path][~kept].any()


def test_alone_in_turns_and_resumed_have_the_same_bits_within_xla(tensorflow):
    """In another trainer too, as in another process; with batch norm and dropout."""
    chosen = config("adam", Model("tests.lottery.own_models:all_kinds_of_state"), compile="xla", clip_norm=1.0)
    one, other = trainer(tensorflow, chosen), trainer(tensorflow, chosen)
    images, labels = batches(4)
    tickets = [masked_start(one, one.first_state(seed), density) for seed, density in ((0, 0.5), (1, 0.2))]
    alone = []
    for start, mask in tickets:
        other.load(start, mask)
        other.run(images, labels, rates(4, 0.01))
        alone.append(arrays(other.state()))
    states = [start for start, _ in tickets]
    for step in range(4):
        for place, (_, mask) in enumerate(tickets):
            one.load(arrays(states[place]), mask)  # as if it had been saved
            one.run(images[step : step + 1], labels[step : step + 1], rates(1, 0.01))
            states[place] = one.state()
    for before, after in zip(alone, states, strict=True):
        assert same(before, arrays(after))


def test_mixed_precision_is_compiled_too(tensorflow):
    plain, compiled = (
        trainer(tensorflow, config(model=BATCH_NORM, precision="mixed_float16", compile=how)) for how in (None, "xla")
    )
    for trained in (plain, compiled):
        trained.load(plain.first_state(0), None)
    images, labels = batches(3)
    assert np.allclose(*(trained.run(images, labels, rates(3, 0.01)) for trained in (plain, compiled)), atol=0.05)


@pytest.mark.parametrize("how", ["numpy_function", "as_string"])
def test_a_model_that_xla_cannot_compile_is_named_in_a_line(tensorflow, how):
    from preprocessing.common.errors import InputError

    model = Model("tests.lottery.own_models:not_for_xla", {"how": how})
    trainer(tensorflow, config(model=model)).run(*batches(1), rates(1))
    trained = trainer(tensorflow, config(model=model, compile="xla"))
    with pytest.raises(InputError, match=r"training.compile: xla cannot compile model .*not_for_xla: .*leave") as error:
        trained.run(*batches(1), rates(1))
    assert type(error.value) is InputError
    assert "\n" not in str(error.value)


def test_what_xla_cannot_compile_deterministically_is_said(tensorflow):
    """A max-pooling's gradient. The tests' TensorFlow is set to be deterministic."""
    from preprocessing.common.errors import InputError

    with pytest.raises(InputError, match="model conv_small: .*MaxPool.*; set training.deterministic to false") as error:
        trainer(tensorflow, config(compile="xla")).run(*batches(1), rates(1))
    assert type(error.value) is InputError


def test_batch_norm_over_several_devices_is_refused_with_xla(tensorflow):
    from preprocessing.common.errors import InputError

    with pytest.raises(InputError, match="training.compile: xla .* over 2 devices; leave the key out") as error:
        trainer(tensorflow, config(model=BATCH_NORM, synchronized_batch_norm=True, compile="xla"), devices=2)
    assert type(error.value) is InputError
    trainer(tensorflow, config(model=BATCH_NORM, synchronized_batch_norm=True, compile="xla"))


def test_only_when_it_is_set_is_the_key_in_the_identity():
    plain, compiled = config(), config(compile="xla")
    assert "compile" not in experiment.to_tree(plain)["training"]
    assert experiment.identity(plain, "0" * 64) != experiment.identity(compiled, "0" * 64)
    tree = experiment.to_tree(compiled)
    assert experiment.from_tree(tree, "a test") == compiled
