"""Mixed precision, and what several replicas share."""

import numpy as np
import pytest
from msgspec.structs import replace

from lottery.experiment.sections import Data, Model
from tests.lottery.small_training import arrays, batches, config, masked_start, rates, same, trainer

BATCH_NORM = Model("tests.lottery.own_models:with_batch_norm")
ALL_KINDS = Model("tests.lottery.own_models:all_kinds_of_state")

DROPOUT = Model("lenet_300_100", {"dropout": 0.5})


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_follows_float32_and_keeps_masked_weights_0(tensorflow, precision):
    images, labels = batches(4)
    single = trainer(tensorflow, config())
    mixed = trainer(tensorflow, config(precision=precision))
    start, mask = masked_start(single, single.first_state(0))
    mixed_start = mixed.fresh_optimizer() | {path: start[path] for path in start if not path.startswith("optimizer/")}
    single.load(start, mask)
    mixed.load(mixed_start, mask)
    expected, losses = (each.run(images, labels, rates(4, 0.01)) for each in (single, mixed))
    assert not np.array_equal(losses, expected)  # else it was not in that precision
    assert np.allclose(losses, expected, atol=0.1)
    state = arrays(mixed.state())
    assert {str(value.dtype) for value in state.values()} == {"float32", "int64"}
    for kernel, kept in mask.items():
        assert not state[kernel][~kept].any()
        assert not np.array_equal(state[kernel], start[kernel])
    assert ("optimizer/loss_scale" in state) == (precision == "mixed_float16")


def test_a_step_whose_gradients_overflow_is_left_out_and_halves_the_scale(tensorflow):
    trained = trainer(tensorflow, config("adam", precision="mixed_float16"))
    images, labels = batches(1)
    start = trained.first_state(0)
    start["optimizer/loss_scale"] = np.float32(2.0**40)
    trained.load(start, None)
    (loss,) = trained.run(images, labels, rates(1))
    after = arrays(trained.state())
    assert np.isfinite(loss)  # the loss itself has not overflowed: the training goes on
    assert after.pop("optimizer/loss_scale") == 2.0**39
    assert same(after, {path: start[path] for path in after})


def test_the_scale_doubles_after_2000_good_steps(tensorflow):
    from lottery.training.loss_scale import next_scale

    scale, good = tensorflow.constant(8.0), tensorflow.constant(1998, tensorflow.int64)
    yes, no = tensorflow.constant(True), tensorflow.constant(False)
    scale, good = next_scale(scale, good, yes)
    assert (float(scale), int(good)) == (8.0, 1999)
    scale, good = next_scale(scale, good, yes)
    assert (float(scale), int(good)) == (16.0, 0)
    scale, good = next_scale(scale, good + 5, no)
    assert (float(scale), int(good)) == (8.0, 0)


def test_synchronised_batch_norm_makes_two_replicas_one(tensorflow):
    images, labels = batches(5)
    one = trainer(tensorflow, config(model=BATCH_NORM))
    start = one.first_state(0)
    states, losses = {}, {}
    for name, chosen, devices in (
        ("one", config(model=BATCH_NORM), 1),
        ("synchronised", config(model=BATCH_NORM, synchronized_batch_norm=True), 2),
        ("apart", config(model=BATCH_NORM), 2),
    ):
        trained = trainer(tensorflow, chosen, devices)
        trained.load(start, None)
        losses[name] = trained.run(images, labels, rates(5, 0.01))
        states[name] = arrays(trained.state())
    assert np.allclose(losses["one"], losses["synchronised"], atol=1e-5)
    for path, value in states["one"].items():
        assert np.allclose(value, states["synchronised"][path], atol=1e-5), path
    assert not np.allclose(losses["one"], losses["apart"], atol=1e-3)


def test_statistics_are_of_all_replicas_images(tensorflow):
    """The mean of the halves' means is the mean of all; of one half alone it is not."""
    images, labels = batches(1)
    means = []
    for devices in (1, 2):
        trained = trainer(tensorflow, config(model=BATCH_NORM), devices)
        trained.load(trained.first_state(0), None)
        trained.run(images, labels, rates(1))
        means.append(next(value for path, value in arrays(trained.state()).items() if path.endswith("moving_mean")))
    assert np.abs(means[0]).max() > 1e-2
    assert np.allclose(*means, atol=1e-6)


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_state_taken_out_and_put_back_goes_on_in_the_same_bits(tensorflow, devices, precision):
    """With batch norm and dropout; on two replicas too, whose own statistics and noise are part of no state."""
    trained = trainer(tensorflow, config("adam", ALL_KINDS, precision=precision), devices)
    images, labels = batches(6)
    start = trained.first_state(0)
    assert sum("seed_generator" in path for path in start) == 2
    trained.load(start, None)
    trained.run(images, labels, rates(6, 0.01))
    whole = arrays(trained.state())
    trained.load(start, None)
    trained.run(images[:2], labels[:2], rates(2, 0.01))
    saved = arrays(trained.state())
    trained.load(trained.first_state(1), None)
    trained.run(images, labels, rates(6, 0.01))
    trained.load(saved, None)
    trained.run(images[2:], labels[2:], rates(4, 0.01))
    assert same(whole, arrays(trained.state()))
    assert not any(np.array_equal(whole[path], start[path]) for path in whole if "seed_generator" in path)


def test_replicas_have_noise_of_their_own(tensorflow):
    """Two replicas that are given the same images: with the same noise, half of them would say all that they do."""
    images, labels = batches(1)
    images[:, 4:], labels[:, 4:] = images[:, :4], labels[:, :4]
    two = trainer(tensorflow, config(model=DROPOUT), devices=2)
    one = trainer(tensorflow, replace(config(model=DROPOUT), data=Data(batch=4)))
    start = one.first_state(0)
    losses = []
    for trained, part in ((two, slice(None)), (one, slice(4))):
        trained.load(start, None)
        losses.append(float(trained.run(images[:, part], labels[:, part], rates(1))[0]))
    assert abs(losses[0] - losses[1]) > 1e-3
    ours, theirs = (next(v for p, v in arrays(t.state()).items() if "seed_generator" in p) for t in (one, two))
    assert np.array_equal(ours, theirs)  # the noise's state is one: it does not depend on the number of replicas


def test_a_models_own_regularizer_is_in_the_loss(tensorflow):
    images, labels = batches(1)
    found = []
    for devices, strength in ((1, 0.0), (1, 0.1), (2, 0.1)):
        model = Model("tests.lottery.own_models:two_layers", {"regularize": strength})
        trained = trainer(tensorflow, config(model=model), devices)
        start = trained.first_state(0)
        trained.load(start, None)
        found.append(float(trained.run(images, labels, rates(1))[0]))
    kernel = next(value for path, value in start.items() if path.endswith("classifier/kernel") and "optim" not in path)
    assert found[1] == pytest.approx(found[0] + 0.1 * (kernel**2).sum(), rel=1e-4)
    assert found[2] == pytest.approx(found[1], rel=1e-5)
