"""Crops, flips and colours of whole images on the device that trains, as `lottery.input.augment` does on the host.

A crop and its resizing are two products of matrices: out = rows x image x columns, with a row of weights for each row
and column of the result. Colours are affine. Every image is computed from its own pixels and parameters alone, step by
step, so that a run's length cannot change it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import tensorflow as tf

from lottery.input.augment import GREY, SHRINKS_MUCH


def augment_run(images: Any, boxes: Any, flipped: Any, colour_factors: Any, side: int) -> Any:
    """A run's images, cropped, resized, flipped and recoloured: uint8 [steps, batch, side, side, 3].

    They are computed where `images` is; of images in main memory each of this process' GPUs takes a part of each batch.

    Args:
        images: whole images, uint8 [steps, batch, size, size, 3].
        boxes, flipped, colour_factors: `CropParameters` of each step: int64 [steps, batch, 4], bool [steps, batch],
            float64 [steps, batch, 3] or None.
    """
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    devices = (images.device,) if "GPU" in images.device or not gpus else tuple(gpus)
    parameters = [boxes, flipped] if colour_factors is None else [boxes, flipped, colour_factors]
    return _compiled(devices, tuple(images.shape[1:]), side, len(parameters))(images, *parameters)


@lru_cache(maxsize=8)
def _compiled(devices: tuple[str, ...], shape: tuple[int, ...], side: int, parameters: int) -> Any:
    """One trace for runs of every length. `shape` is a batch's, `parameters` how many arrays there are."""
    batch = shape[0]
    each = tf.TensorSpec([None, batch, 4], tf.int64), tf.TensorSpec([None, batch], tf.bool)
    signature = [tf.TensorSpec([None, *shape], tf.uint8), *each, tf.TensorSpec([None, batch, 3], tf.float64)]

    def run(*tensors: Any) -> Any:
        parts = []
        for place, device in enumerate(devices):
            share = slice(batch * place // len(devices), batch * (place + 1) // len(devices))
            with tf.device(device):
                parts.append(_each_step(tuple(tensor[:, share] for tensor in tensors), side))
        return parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)

    return tf.function(run, input_signature=signature[: 1 + parameters], autograph=False)


def _each_step(tensors: tuple[Any, ...], side: int) -> Any:
    """`augment_batch` of each step of a run: a batch of floats is in memory at a time."""
    count = tf.shape(tensors[0])[0]

    def augment_step(step: Any, done: Any) -> tuple[Any, Any]:
        batch = augment_batch(*(tensor[step] for tensor in tensors), side=side)
        return step + 1, done.write(step, tf.cast(batch, tf.float16))

    # GPUs have no list of uint8 (tf.map_fn would copy all images to main memory and back), and float16 holds 0..255.
    done = tf.TensorArray(tf.float16, count)
    _, done = tf.while_loop(lambda step, _: step < count, augment_step, (tf.constant(0), done), parallel_iterations=1)
    return tf.cast(done.stack(), tf.uint8)


def augment_batch(images: Any, boxes: Any, flipped: Any, colour_factors: Any = None, *, side: int) -> Any:
    """A batch of n whole images, uint8 [n, size, size, 3], as uint8 [n, side, side, 3]."""
    top, left, height, width = (tf.cast(edge, tf.float32) for edge in tf.unstack(boxes, axis=1))
    shrinks_much = tf.minimum(height, width) / side >= SHRINKS_MUCH
    size = images.shape[1]
    rows = _weights(top, height, shrinks_much, size, side)
    columns = _weights(left, width, shrinks_much, size, side)
    columns = tf.where(flipped[:, None, None], tf.reverse(columns, [1]), columns)
    cropped = tf.einsum("nis,nsjc->nijc", rows, tf.cast(images, tf.float32))
    pixels = tf.round(tf.einsum("njs,nisc->nijc", columns, cropped))
    if colour_factors is not None:
        pixels = _recoloured(pixels, colour_factors)
    return tf.cast(tf.clip_by_value(pixels, 0.0, 255.0), tf.uint8)


def _weights(first: Any, length: Any, shrinks_much: Any, size: int, side: int) -> Any:
    """The part of each of `size` pixels in each of `side` results, float32 [n, side, size]; 0 outside of the image.

    Results are means over areas if an image shrinks much, and else lie between the centres of two pixels of the box.
    """
    first, length = first[:, None, None], length[:, None, None]
    scale = length / side
    result = tf.range(side, dtype=tf.float32)[None, :, None]
    pixel = tf.range(size, dtype=tf.float32)[None, None, :]
    centre = first + tf.clip_by_value((result + 0.5) * scale - 0.5, 0.0, length - 1.0)
    between = tf.maximum(0.0, 1.0 - tf.abs(pixel - centre))
    start = first + result * scale
    overlap = tf.minimum(start + scale, pixel + 1.0) - tf.maximum(start, pixel)
    return tf.where(shrinks_much[:, None, None], tf.maximum(0.0, overlap) / scale, between)


def _recoloured(pixels: Any, factors: Any) -> Any:
    """Brightness, then contrast about the mean grey, then saturation, of whole numbers in float32."""
    weights = tf.constant(GREY, tf.float64)
    # Sums of whole numbers in float64 are exact in any order.
    grey = tf.reduce_sum(tf.reduce_mean(tf.cast(pixels, tf.float64), axis=[1, 2]) * weights, axis=1)
    brightness, contrast, saturation = tf.unstack(tf.cast(factors, tf.float64), axis=1)
    offset = tf.cast((1.0 - contrast) * brightness * grey, tf.float32)[:, None, None, None]
    gain, saturation = (
        tf.cast(factor, tf.float32)[:, None, None, None] for factor in (brightness * contrast, saturation)
    )
    greys = tf.reduce_sum(pixels * tf.cast(weights, tf.float32), axis=3, keepdims=True)
    return tf.round(gain * (saturation * pixels + (1.0 - saturation) * greys) + offset)
