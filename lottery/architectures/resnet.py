"""Residual networks (He et al., 2016): for ImageNet, and for CIFAR-sized images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

Shape = tuple[int, int, int]
Block = Callable[[Any, int, int, str], Any]  # (features, filters, stride, name) -> features


def resnet50(shape: Shape, classes: int, width: int = 64) -> keras.Model:
    """For ImageNet, 25,557,032 trainable parameters with 1,000 classes.

    Version 1.5: a block's stride is in its 3x3 convolution, not in its first 1x1 (Goyal et al., 2017). Published
    accuracies of "ResNet-50" are mostly for this version.
    """
    inputs = keras.Input(shape)
    features = _convolve(inputs, width, 7, 2, "stem")
    features = layers.MaxPooling2D(3, 2, name="stem_pool")(layers.ZeroPadding2D(1, name="stem_pool_pad")(features))
    widths = [width * factor for factor in (1, 2, 4, 8)]
    return _network(inputs, features, _bottleneck, widths, (3, 4, 6, 3), classes, "resnet50")


def resnet18(shape: Shape, classes: int, width: int = 64) -> keras.Model:
    """For CIFAR-sized images: a 3x3 stem and no pooling after it; 11,173,962 trainable parameters with 10 classes."""
    inputs = keras.Input(shape)
    features = _convolve(inputs, width, 3, 1, "stem")
    widths = [width * factor for factor in (1, 2, 4, 8)]
    return _network(inputs, features, _basic, widths, (2, 2, 2, 2), classes, "resnet18")


def resnet8(shape: Shape, classes: int, width: int = 16) -> keras.Model:
    """The smallest of He et al.'s networks for CIFAR, for work without a GPU; 78,042 trainable parameters, 10 classes.

    MLPerf Tiny's ResNet-8 (Banbury et al., 2021) has the same kernels.
    """
    return _cifar(shape, classes, width, 1, "resnet8")


def resnet20(shape: Shape, classes: int, width: int = 16) -> keras.Model:
    """He et al.'s for CIFAR, section 4.2; 272,474 trainable parameters with 10 classes."""
    return _cifar(shape, classes, width, 3, "resnet20")


def _cifar(shape: Shape, classes: int, width: int, blocks: int, name: str) -> keras.Model:
    """Three stages of `blocks` blocks, with 1x1 convolutions in shortcuts that change shape, as open_lth has them."""
    inputs = keras.Input(shape)
    features = _convolve(inputs, width, 3, 1, "stem")
    return _network(inputs, features, _basic, (width, 2 * width, 4 * width), (blocks,) * 3, classes, name)


def _network(
    inputs: Any, features: Any, block: Block, widths: Sequence[int], depths: Sequence[int], classes: int, name: str
) -> keras.Model:
    for stage, (filters, depth) in enumerate(zip(widths, depths, strict=True)):
        for place in range(depth):
            stride = 2 if stage > 0 and place == 0 else 1
            features = block(features, filters, stride, f"stage{stage + 1}_block{place + 1}")
    features = layers.GlobalAveragePooling2D(name="pool")(features)
    return keras.Model(inputs, layers.Dense(classes, name="classifier")(features), name=name)


def _basic(features: Any, filters: int, stride: int, name: str) -> Any:
    inner = _convolve(features, filters, 3, stride, f"{name}_1")
    inner = _convolve(inner, filters, 3, 1, f"{name}_2", activate=False)
    return _join(features, inner, filters, stride, name)


def _bottleneck(features: Any, filters: int, stride: int, name: str) -> Any:
    inner = _convolve(features, filters, 1, 1, f"{name}_1")
    inner = _convolve(inner, filters, 3, stride, f"{name}_2")
    inner = _convolve(inner, 4 * filters, 1, 1, f"{name}_3", activate=False)
    return _join(features, inner, 4 * filters, stride, name)


def _join(features: Any, inner: Any, filters: int, stride: int, name: str) -> Any:
    if stride != 1 or features.shape[-1] != filters:
        features = _convolve(features, filters, 1, stride, f"{name}_shortcut", activate=False)
    return layers.Activation("relu", name=f"{name}_out")(layers.Add(name=f"{name}_add")([features, inner]))


def _convolve(features: Any, filters: int, size: int, stride: int, name: str, activate: bool = True) -> Any:
    """Convolution and batch norm. A stride of 2 pads both sides alike, as the published networks do; "same" would
    pad below and to the right only."""
    pad = stride > 1 and size > 1
    if pad:
        features = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(features)
    features = layers.Conv2D(
        filters,
        size,
        stride,
        padding="valid" if pad else "same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(features)
    features = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(features)
    return layers.Activation("relu", name=f"{name}_relu")(features) if activate else features
