"""The shipped models against published numbers, and the ways to name one."""

import importlib
import inspect
import json
import math
import re

import pytest

from lottery.experiment.config import load
from lottery.experiment.sections import Model
from lottery.models.registry import MODELS
from preprocessing.common.errors import InputError
from tests.lottery.paths import CONF

SHAPE = (8, 8, 3)
DOCS = CONF.parent / "docs" / "experiments.md"
OWN = "tests.lottery.own_models"
SHORT = {"batch_norm_momentum": 0.9}

# Trainable parameters and multiply-adds, and who publishes them.
PUBLISHED = {
    # Torchvision's model zoo: 25,557,032 and 4.09 G.
    "resnet50": ((224, 224, 3), 1000, 25_557_032, 4_089_184_256),
    # Torchvision's 3,504,872; Sandler et al., 2018, table 4: 3.4 M and 300 M.
    "mobilenet_v2": ((224, 224, 3), 1000, 3_504_872, 300_774_272),
    # The CIFAR version that is widely used has 11,173,962 and .56 G.
    "resnet18": ((32, 32, 3), 10, 11_173_962, 555_422_720),
    # He et al., 2016, table 6: 0.27 M; with 1x1 shortcuts 272,474 and 40.8 M.
    "resnet20": ((32, 32, 3), 10, 272_474, 40_813_184),
    # MLPerf Tiny (Banbury et al., 2021): 78,666 and 12.5 M. Of these 480 are moving statistics and 336 biases that ours
    # does not have; our two shortcuts have batch norm, with 192.
    "resnet8": ((32, 32, 3), 10, 78_042, 12_501_632),
    # Li et al., 2017, table 1: 1.5e7 and 3.13e8.
    "vgg16": ((32, 32, 3), 10, 14_724_042, 313_201_664),
    # Frankle and Carbin, 2019, figure 2: 266K weights.
    "lenet_300_100": ((28, 28, 3), 10, 266_610, 266_200),
    # The weights that figure 2 counts (below), with biases; multiply-adds are our own sum over its layers.
    "conv2": ((32, 32, 3), 10, 4_301_642, 43_780_608),
    "conv4": ((32, 32, 3), 10, 2_425_930, 98_306_560),
    "conv6": ((32, 32, 3), 10, 2_262_602, 153_881_088),
    # The original project's digits.
    "conv_small": (SHAPE, 10, 36_954, 209_152),
}


@pytest.mark.parametrize("name", MODELS)
def test_parameters_and_multiply_adds_are_those_published(tensorflow, name):
    from lottery.models import build

    shape, classes, parameters, multiply_adds = PUBLISHED[name]
    model = build.build(Model(name), shape, classes, 0)
    assert sum(math.prod(variable.shape) for variable in model.trainable_variables) == parameters
    assert build.multiply_adds(model) == multiply_adds
    assert model.output_shape == (None, classes)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_documented_with_its_size_and_options(tensorflow, name):
    module, function = MODELS[name].split(":")
    options = [*inspect.signature(getattr(importlib.import_module(module), function)).parameters.values()][2:]
    described = ", ".join(f"`{option.name}: {json.dumps(option.default)}`" for option in options)
    rows = re.findall(rf"^\| `{name}` \| [^|]+ \| ([0-9,]+) \| (.+) \|$", DOCS.read_text(), re.MULTILINE)
    assert rows == [(f"{PUBLISHED[name][2]:,}", described)]


@pytest.mark.parametrize(
    ("name", "shape", "weights"),
    [
        ("conv_small", SHAPE, "36,784"),  # the original project's digits
        ("lenet_300_100", (28, 28, 3), "266,200"),  # Frankle and Carbin, 2019, figure 2: 266K,
        ("conv2", (32, 32, 3), "4,300,992"),  # 4.3M,
        ("conv4", (32, 32, 3), "2,425,024"),  # 2.4M,
        ("conv6", (32, 32, 3), "2,261,184"),  # and 1.7M, which the layers described there do not add up to
    ],
)
def test_the_kernel_weights_that_a_paper_counts(tensorflow, name, shape, weights):
    from lottery.models import build

    kernels = build.prunable_kernels(build.build(Model(name), shape, 10, 0), classifier=True)
    assert f"{sum(math.prod(kernel.shape) for kernel in kernels):,}" == weights


def test_conv6_has_the_convolutional_weights_of_its_paper(tensorflow):
    from lottery.models import build

    kernels = build.prunable_kernels(build.build(Model("conv6"), (32, 32, 3), 10, 0), classifier=True)
    convolutional = sum(math.prod(kernel.shape) for kernel in kernels if len(kernel.shape) == 4)
    assert convolutional == 1_144_512  # figure 2: 1.1M


def test_prunable_are_kernels_with_or_without_the_classifier(tensorflow):
    from lottery.models import build

    model = build.build(Model("mobilenet_v2", {"alpha": 0.35}), (32, 32, 3), 10, 0)
    kernels = [variable.path for variable in build.prunable_kernels(model, classifier=True)]
    assert len(kernels) == 53  # 52 convolutions, 17 of them depthwise, and the classifier
    assert sum("depthwise" in path for path in kernels) == 17
    assert not any("bn" in path.lower() or "bias" in path for path in kernels)
    without = [variable.path for variable in build.prunable_kernels(model, classifier=False)]
    assert without == kernels[:-1]


def test_the_batch_norm_momentum_of_mobilenet_v2_is_an_option_that_changes_nothing_by_default(tensorflow):
    from lottery.models import build
    from lottery.models.fingerprint import fingerprint

    keras = tensorflow.keras
    keras.utils.clear_session(free_memory=False)  # which names the layers that have no name of their own
    theirs = keras.applications.MobileNetV2((32, 32, 3), 0.35, weights=None, classes=10, classifier_activation=None)

    def built(options):
        model = build.build(Model("mobilenet_v2", {"alpha": 0.35, **options}), (32, 32, 3), 10, 0)
        norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        return {layer.momentum for layer in norms}, len(norms), fingerprint(model)

    unset, default, short = (built(options) for options in ({}, {"batch_norm_momentum": 0.999}, SHORT))
    assert unset == default == ({0.999}, 52, fingerprint(theirs))
    assert short[:2] == ({0.9}, 52)
    assert short[2] != default[2]


def test_resnet50_is_version_1_5(tensorflow):
    """The stride of a stage's first block is in its 3x3 convolution."""
    from lottery.models import build

    model = build.build(Model("resnet50"), (64, 64, 3), 10, 0)
    strides = [model.get_layer(f"stage2_block1_{place}_conv").strides[0] for place in (1, 2, 3)]
    assert strides == [1, 2, 1]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Model("conv_large"), ["conv_large", "conv_small", "mobilenet_v2"]),
        (Model("conv_small", {"depth": 3}), ["conv_small", "depth", "its options are filters, units"]),
        (Model("resnet20", {"widht": 8}), ["model.options", "resnet20 has no option widht; did you mean width?"]),
        (Model("no_such_module:build"), ["no_such_module"]),
        (Model("lottery.models.build:nothing"), ["nothing"]),
        (Model(f"{OWN}:softmax"), ["ends in softmax", "leave the activation out"]),
        (Model(f"{OWN}:softmax_layer"), ["ends in softmax", "sums to 1"]),
        (Model(f"{OWN}:softmax_layer", {"kernel_initializer": "zeros"}), ["ends in softmax", "sums to 1"]),
        (Model(f"{OWN}:softmax_layer", {"dtype": "float16"}), ["ends in softmax", "sums to 1"]),
        (Model(f"{OWN}:softmax_by_ops"), ["ends in softmax", "sums to 1"]),
        (Model(f"{OWN}:sigmoid_by_ops"), ["ends in a sigmoid", "within [0, 1]", "leave the activation out"]),
        (Model(f"{OWN}:not_flat"), ["[8, 8, 3] into [None, 8, 8, 4], not into [None, 4]"]),
        (Model(f"{OWN}:no_model"), ["returns str, not a keras.Model"]),
        (Model(f"{OWN}:breaks"), ["ZeroDivisionError: my own (own_models.py line ", "correct the model"]),
        (Model(f"{OWN}:always_decides"), ["decides by a tensor (own_models.py line ", "AutoGraph", "keras.ops.where"]),
        (Model("tests.lottery.does_not_import:build"), ["importing", "no_such_library", "does_not_import.py line 3"]),
    ],
)
def test_bad_models_are_named(tensorflow, model, words):
    from lottery.models import build

    with pytest.raises(InputError) as error:
        build.build(model, SHAPE, 4, 0)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_a_worker_that_is_lost_while_the_model_is_built_is_not_the_models_fault(tensorflow, monkeypatch):
    from lottery.models.build import build
    from tests.lottery import own_models

    def lose_worker(shape, classes):
        raise tensorflow.errors.UnavailableError(None, None, "Collective ops is aborted by: Connection reset by peer")

    monkeypatch.setattr(own_models, "breaks", lose_worker)
    with pytest.raises(tensorflow.errors.UnavailableError):
        build(Model(f"{OWN}:breaks"), SHAPE, 10, seed=0)


def test_a_users_own_model_by_its_module_path(tensorflow):
    from lottery.models import build

    assert build.build(Model("lottery.architectures.small:conv_small"), SHAPE, 4, 0).name == "conv_small"


def test_a_model_that_is_built_by_its_first_call(tensorflow):
    from lottery.models import build

    model = build.build(Model(f"{OWN}:subclassed"), SHAPE, 4, 0)
    paths = [kernel.path for kernel in build.prunable_kernels(model, classifier=True)]
    assert paths == ["subclassed/hidden/kernel", "subclassed/classifier/kernel"]


@pytest.mark.parametrize(
    "model",
    [
        *(Model(f"lottery.architectures.{place}", {}) for place in ("small:conv_small", "resnet:resnet20")),
        Model(f"{OWN}:starts_at_zero"),
        Model(f"{OWN}:starts_at_zero", {"use_bias": False}),
        Model(f"{OWN}:starts_positive"),
        Model(f"{OWN}:always_zero"),
        Model(f"{OWN}:all_kinds_of_state"),
    ],
)
@pytest.mark.parametrize("classes", [2, 10])
def test_logits_are_told_from_probabilities_and_the_model_stays_as_it_was(tensorflow, monkeypatch, model, classes):
    import numpy as np

    from lottery.models import build

    built = build.build(model, SHAPE, classes, 0)
    drawn = np.random.random(), tensorflow.random.uniform([]).numpy()
    monkeypatch.setattr(build.logits, "check", lambda *_: None)
    unchecked = build.build(model, SHAPE, classes, 0)
    assert drawn == (np.random.random(), tensorflow.random.uniform([]).numpy())
    for one, other in zip(built.variables, unchecked.variables, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other)), one.path


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("convolution_for_a_head", ["head/kernel"]),
        ("nested_head", ["head/kernel"]),
        ("head_made_first", ["head/depthwise_kernel", "head/pointwise_kernel"]),
        ("subclassed", ["classifier/kernel"]),
        ("own_head", []),
    ],
)
def test_the_classifier_is_the_layer_that_feeds_the_output(tensorflow, name, left_out):
    from lottery.models import build

    model = build.build(Model(f"{OWN}:{name}"), SHAPE, 4, 0)
    every, others = ([kernel.path for kernel in build.prunable_kernels(model, keep, SHAPE)] for keep in (True, False))
    assert [path for path in every if path not in others] == [path for path in every if path.endswith(tuple(left_out))]
    assert len(every) - len(others) == len(left_out)


def test_batch_norm_behind_the_classifier_is_looked_through(tensorflow):
    from lottery.models import build

    model = build.build(Model(f"{OWN}:convolution_for_a_head", {"batch_norm": True}), SHAPE, 4, 0)
    paths = [kernel.path for kernel in build.prunable_kernels(model, classifier=False)]
    assert [path.split("/")[-2] for path in paths] == ["conv", "excite"]


@pytest.mark.parametrize("name", sorted(path.name for path in CONF.glob("*.yaml")))
def test_a_shipped_experiment_has_a_model_with_its_options(tensorflow, name):
    from lottery.models import build

    model = load(str(CONF / name)).model
    assert build.build(model, (32, 32, 3), 10, 0).output_shape == (None, 10)


@pytest.mark.parametrize("name", MODELS)
def test_the_shipped_models_classifier_is_their_last_kernel(tensorflow, name):
    """As it was when the last dense layer was taken for it: run directories go on."""
    from lottery.models import build

    model = build.build(Model(name), (32, 32, 3), 10, 0)
    every, others = ([kernel.path for kernel in build.prunable_kernels(model, keep)] for keep in (True, False))
    assert others == every[:-1]


def test_leaving_out_the_classifier_needs_a_model_that_has_one(tensorflow):
    from lottery.models import build

    model = build.build(Model(f"{OWN}:two_heads"), SHAPE, 4, 0)
    assert len(build.prunable_kernels(model, classifier=True)) == 2
    with pytest.raises(InputError, match=r"masks.classifier: false, but .* a single layer"):
        build.prunable_kernels(model, classifier=False)
