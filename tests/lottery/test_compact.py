"""A network without the channels that nothing reads or feeds has the same outputs, and fewer channels."""

from __future__ import annotations

import numpy as np
import pytest

from lottery.experiment.sections import Model
from lottery.tickets import masks
from preprocessing.common.errors import InputError

SHAPE = (8, 8, 3)


def images(shape=SHAPE, count=6):
    return np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)


def randomise(network, seed=0):
    """Gives all variables, biases and statistics too, values that are not their first."""
    random = np.random.default_rng(seed)
    for variable in network.variables:
        size, name = tuple(variable.shape), variable.path.rsplit("/", 1)[-1]
        if name == "moving_variance":
            variable.assign(random.uniform(0.5, 2, size))
        elif name != "seed_generator_state":
            scale = 1 / np.sqrt(np.prod(size[:-1])) if len(size) > 1 else 0.5
            variable.assign(random.normal(scale=scale, size=size))
    return network


def silence(network, layer, channels, bias=None):
    """Masks all weights that feed these channels of a layer, and gives them a bias."""
    found = network.get_layer(layer)
    kernel = found.kernel.numpy().copy()
    kernel[..., channels] = 0
    found.kernel.assign(kernel)
    if bias is not None:
        biases = found.bias.numpy().copy()
        biases[channels] = bias
        found.bias.assign(biases)


def ignore(network, layer, channels):
    """Masks all weights of a layer that read these channels."""
    kernel = network.get_layer(layer).kernel.numpy().copy()
    kernel[..., channels, :] = 0
    network.get_layer(layer).kernel.assign(kernel)


def compacted(network):
    from lottery.models.compact import compacted

    return compacted(network, "own")


def same(network, compact, shape=SHAPE):
    one, other = (np.asarray(model(images(shape), training=False)) for model in (network, compact))
    assert np.abs(one).max() > 0
    return np.abs(one - other).max() <= 1e-5 * max(1, np.abs(one).max())


def width(model, layer):
    return model.get_layer(layer).output.shape[-1]


def chain(keras, padding="valid", size=3, use_bias=True, norm=False, between=()):
    layers = keras.layers
    parts = [keras.Input(SHAPE), layers.Conv2D(6, 3, padding="same", use_bias=use_bias, name="first")]
    if norm:
        parts.append(layers.BatchNormalization(name="norm"))
    parts += [
        layers.Activation("relu", name="relu"),
        *between,
        layers.Conv2D(5, size, padding=padding, use_bias=use_bias, activation="relu", name="second"),
        layers.Flatten(name="flatten"),
        layers.Dense(4, name="classifier"),
    ]
    return randomise(keras.Sequential(parts))


@pytest.fixture
def keras(tensorflow):
    return tensorflow.keras


def test_channels_that_nothing_reads_are_gone(keras):
    network = chain(keras, padding="same")
    ignore(network, "second", [1, 4])
    compact = compacted(network)
    assert width(compact, "first") == 4
    assert same(network, compact)


def test_a_channel_that_is_not_fed_is_added_to_the_bias_of_what_reads_it(keras):
    network = chain(keras)
    silence(network, "first", [0, 5], bias=[0.7, -0.4])  # of the second, the ReLU makes 0
    compact = compacted(network)
    assert width(compact, "first") == 4
    assert same(network, compact)


def test_a_constant_that_is_padded_is_kept_unless_it_is_0(keras):
    """At the image's edge the padding's zeros take the constant's place, so that no bias is equal to it."""
    network = chain(keras, padding="same")
    silence(network, "first", [0, 5], bias=[0.7, -0.4])
    compact = compacted(network)
    assert width(compact, "first") == 5
    assert same(network, compact)


def test_a_constant_that_a_padding_layer_surrounds_is_kept_unless_it_is_0(keras):
    network = chain(keras, between=[keras.layers.ZeroPadding2D(1, name="pad")])
    silence(network, "first", [0, 5], bias=[0.7, -0.4])
    compact = compacted(network)
    assert width(compact, "first") == 5
    assert same(network, compact)


def test_a_convolution_of_one_pixel_pads_nothing(keras):
    network = chain(keras, padding="same", size=1)
    silence(network, "first", [0], bias=0.7)
    compact = compacted(network)
    assert width(compact, "first") == 5
    assert same(network, compact)


def test_what_batch_norm_makes_of_a_channel_that_is_not_fed_is_a_constant(keras):
    network = chain(keras, use_bias=False, norm=True)
    silence(network, "first", [2, 3])
    network.get_layer("norm").beta.assign(np.full(6, 0.9))
    compact = compacted(network)
    assert width(compact, "first") == width(compact, "norm") == 4
    assert compact.get_layer("second").use_bias  # it had none, and gets one for the constants
    assert same(network, compact)


def test_constants_go_through_pooling_and_flattening(keras):
    network = chain(keras, between=[keras.layers.MaxPooling2D(name="pool")])
    silence(network, "first", [1], bias=0.3)
    silence(network, "second", [0, 4], bias=[0.8, -1])
    compact = compacted(network)
    assert (width(compact, "first"), width(compact, "second")) == (5, 3)
    assert compact.get_layer("classifier").kernel.shape == (3 * 2 * 2, 4)
    assert same(network, compact)


def test_a_layer_keeps_a_channel_even_if_nothing_is_left_to_read(keras):
    network = chain(keras)
    silence(network, "first", range(6), bias=0.3)
    compact = compacted(network)
    assert (width(compact, "first"), width(compact, "second")) == (1, 1)
    assert same(network, compact)


def residual(keras):
    layers = keras.layers
    inputs = keras.Input(SHAPE)
    stem = layers.Conv2D(6, 3, padding="same", name="stem")(inputs)
    inner = layers.Conv2D(5, 3, padding="same", activation="relu", name="inner")(stem)
    inner = layers.Conv2D(6, 3, padding="same", name="outer")(inner)
    joined = layers.Add(name="add")([stem, inner])
    pooled = layers.GlobalAveragePooling2D(name="pool")(layers.Activation("relu", name="relu")(joined))
    return randomise(keras.Model(inputs, layers.Dense(4, name="classifier")(pooled)))


def test_a_sum_loses_a_channel_that_nothing_reads_after_it(keras):
    network = residual(keras)
    ignore(network, "classifier", [0, 1])
    ignore(network, "inner", [0, 2])
    compact = compacted(network)
    # The inner branch reads channel 1 of the stem, so that the sum keeps it; channel 0 is read by nobody.
    assert [width(compact, layer) for layer in ("stem", "outer", "add")] == [5, 5, 5]
    assert same(network, compact)


def test_a_sum_keeps_a_channel_that_one_of_its_branches_feeds(keras):
    network = residual(keras)
    silence(network, "outer", [3], bias=0.5)
    compact = compacted(network)
    assert [width(compact, layer) for layer in ("stem", "outer", "inner")] == [6, 6, 5]
    assert same(network, compact)


def test_a_sum_of_constants_is_a_constant(keras):
    network = residual(keras)
    silence(network, "stem", [2], bias=0.0)
    silence(network, "outer", [2], bias=0.5)
    compact = compacted(network)
    assert [width(compact, layer) for layer in ("stem", "outer")] == [5, 5]
    assert same(network, compact)


def test_concatenated_channels_are_told_apart(keras):
    layers = keras.layers
    inputs = keras.Input(SHAPE)
    one, other = (layers.Conv2D(4, 3, name=name, activation="relu")(inputs) for name in ("one", "other"))
    joined = layers.Concatenate(name="join")([one, other])
    network = randomise(keras.Model(inputs, layers.Dense(3, name="last")(layers.GlobalMaxPooling2D()(joined))))
    ignore(network, "last", [1, 6, 7])
    silence(network, "other", [0], bias=1.5)
    compact = compacted(network)
    assert [width(compact, layer) for layer in ("one", "other")] == [3, 1]
    assert same(network, compact)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_depthwise_convolution_loses_the_channels_around_it(keras, multiplier):
    layers = keras.layers
    network = randomise(
        keras.Sequential(
            [
                keras.Input(SHAPE),
                layers.Conv2D(6, 1, activation="relu", name="expand"),
                layers.DepthwiseConv2D(3, depth_multiplier=multiplier, name="depthwise"),
                layers.BatchNormalization(name="norm"),
                layers.ReLU(6.0, name="relu"),
                layers.Conv2D(5, 1, name="project"),
                layers.GlobalAveragePooling2D(name="pool"),
                layers.Dense(4, name="classifier"),
            ]
        )
    )
    ignore(
        network, "project", [*range(2 * multiplier), 5 * multiplier]
    )  # of channel 5 one output is read if it has two
    silence(network, "expand", [3], bias=0.4)
    compact = compacted(network)
    left = 3 if multiplier == 1 else 4  # of 0 to 5, neither 0 and 1 nor 3, and 5 only with two outputs
    assert [width(compact, layer) for layer in ("expand", "depthwise")] == [left - 1, (left - 1) * multiplier]
    assert same(network, compact)


def test_layers_that_are_not_known_keep_what_they_read_and_write(keras):
    layers = keras.layers
    inputs = keras.Input(SHAPE)
    shared = layers.Conv2D(3, 3, padding="same", name="shared")  # called twice
    features = layers.PReLU(name="prelu")(shared(shared(inputs)))
    features = layers.Dense(5, activation="softmax", name="softmax")(layers.Flatten()(features))
    network = randomise(keras.Model(inputs, layers.Dense(4, name="classifier")(features)))
    silence(network, "softmax", [1], bias=0.2)
    silence(network, "shared", [0], bias=0.2)
    compact = compacted(network)
    assert [width(compact, layer) for layer in ("prelu", "softmax")] == [3, 5]
    assert same(network, compact)


def test_a_model_with_code_of_its_own_is_refused(keras):
    from lottery.models import build
    from lottery.models.compact import compacted

    name = "tests.lottery.own_models:subclassed"
    with pytest.raises(InputError, match=f"--compact: model {name} is not a graph of Keras layers") as caught:
        compacted(build.build(Model(name), SHAPE, 4, 0), name)
    assert type(caught.value) is InputError


def ticket(name, options, shape, density, seed=0):
    from lottery.models import build

    network = randomise(build.build(Model(name, options), shape, 10, seed), seed)
    kernels = build.prunable_kernels(network, classifier=True)
    (mask,) = masks.global_magnitude_masks({each.path: each.numpy().copy() for each in kernels}, [density])
    for kernel in kernels:
        kernel.assign(kernel.numpy().copy() * mask[kernel.path])
    return network


@pytest.mark.parametrize("density", [0.2, 0.02])
@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("conv_small", {}, SHAPE),
        ("lenet_300_100", {}, SHAPE),
        ("conv4", {"width": 6}, (16, 16, 3)),
        ("resnet8", {"width": 6}, (12, 12, 3)),
        pytest.param("vgg16", {"width": 4}, (32, 32, 3), marks=pytest.mark.cluster),
        pytest.param("mobilenet_v2", {"alpha": 0.35}, (32, 32, 3), marks=pytest.mark.cluster),
        pytest.param("resnet50", {"width": 4}, (32, 32, 3), marks=pytest.mark.cluster),
    ],
)
def test_tickets_of_the_shipped_models_are_the_same_and_smaller(tensorflow, name, options, shape, density):
    from lottery.models import build
    from lottery.models.compact import channels_left

    network = ticket(name, options, shape, density)
    compact = compacted(network)
    assert same(network, compact, shape)
    before, after = channels_left(network, compact)
    if density < 0.1:
        assert after < before
        assert build.multiply_adds(compact) < build.multiply_adds(network)
