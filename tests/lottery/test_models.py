"""The shipped models against published numbers, and the ways to name one."""

import math

import pytest

from lottery.experiment import Model
from lottery.registry import MODELS
from preprocessing.errors import InputError

SHAPE = (8, 8, 3)
OWN = "tests.lottery.own_models"

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
    # Li et al., 2017, table 1: 1.5e7 and 3.13e8.
    "vgg16": ((32, 32, 3), 10, 14_724_042, 313_201_664),
    # Frankle and Carbin, 2019, figure 2: 266K weights.
    "lenet_300_100": ((28, 28, 3), 10, 266_610, 266_200),
    # The original project's digits.
    "conv_small": (SHAPE, 10, 36_954, 209_152),
}


@pytest.mark.parametrize("name", MODELS)
def test_parameters_and_multiply_adds_are_those_published(tensorflow, name):
    from lottery import models

    shape, classes, parameters, multiply_adds = PUBLISHED[name]
    model = models.build(Model(name), shape, classes, 0)
    assert sum(math.prod(variable.shape) for variable in model.trainable_variables) == parameters
    assert models.multiply_adds(model) == multiply_adds
    assert model.output_shape == (None, classes)


def test_the_kernel_weights_of_the_digits_study(tensorflow):
    from lottery import models

    kernels = models.prunable_kernels(models.build(Model("conv_small"), SHAPE, 10, 0), classifier=True)
    assert sum(math.prod(kernel.shape) for kernel in kernels) == 36_784


def test_prunable_are_kernels_with_or_without_the_classifier(tensorflow):
    from lottery import models

    model = models.build(Model("mobilenet_v2", {"alpha": 0.35}), (32, 32, 3), 10, 0)
    kernels = [variable.path for variable in models.prunable_kernels(model, classifier=True)]
    assert len(kernels) == 53  # 52 convolutions, 17 of them depthwise, and the classifier
    assert sum("depthwise" in path for path in kernels) == 17
    assert not any("bn" in path.lower() or "bias" in path for path in kernels)
    without = [variable.path for variable in models.prunable_kernels(model, classifier=False)]
    assert without == kernels[:-1]


def test_resnet50_is_version_1_5(tensorflow):
    """The stride of a stage's first block is in its 3x3 convolution."""
    from lottery import models

    model = models.build(Model("resnet50"), (64, 64, 3), 10, 0)
    strides = [model.get_layer(f"stage2_block1_{place}_conv").strides[0] for place in (1, 2, 3)]
    assert strides == [1, 2, 1]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Model("conv_large"), ["conv_large", "conv_small", "mobilenet_v2"]),
        (Model("conv_small", {"depth": 3}), ["conv_small", "depth"]),
        (Model("no_such_module:build"), ["no_such_module"]),
        (Model("lottery.models:nothing"), ["nothing"]),
        (Model(f"{OWN}:softmax"), ["ends in softmax", "leave the activation out"]),
        (Model(f"{OWN}:not_flat"), ["[8, 8, 3] into [None, 8, 8, 4], not into [None, 4]"]),
        (Model(f"{OWN}:no_model"), ["returns str, not a keras.Model"]),
        (Model(f"{OWN}:breaks"), ["ZeroDivisionError: my own (own_models.py line ", "correct the model"]),
        (Model(f"{OWN}:always_decides"), ["decides by a tensor (own_models.py line ", "AutoGraph", "keras.ops.where"]),
        (Model("tests.lottery.does_not_import:build"), ["importing", "no_such_library", "does_not_import.py line 3"]),
    ],
)
def test_bad_models_are_named(tensorflow, model, words):
    from lottery import models

    with pytest.raises(InputError) as error:
        models.build(model, SHAPE, 4, 0)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_a_users_own_model_by_its_module_path(tensorflow):
    from lottery import models

    assert models.build(Model("lottery.architectures.small:conv_small"), SHAPE, 4, 0).name == "conv_small"


def test_a_model_that_is_built_by_its_first_call(tensorflow):
    from lottery import models

    model = models.build(Model(f"{OWN}:subclassed"), SHAPE, 4, 0)
    paths = [kernel.path for kernel in models.prunable_kernels(model, classifier=True)]
    assert paths == ["subclassed/hidden/kernel", "subclassed/classifier/kernel"]
