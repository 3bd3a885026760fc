"""Random crops, flips and colours of training images, and the centre crop of evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lottery.experiment.sections import Data
from lottery.seeds import random_stream
from preprocessing.common.errors import InputError

Image = NDArray[np.uint8]

# Weights of R, G and B in grey (Rec. 601), which contrast and saturation do not change.
GREY = np.array([0.299, 0.587, 0.114])
SHRINKS_MUCH = 1.5
_ATTEMPTS = 10  # to draw a box that lies within the image; after that, the whole image


def check(data: Data, size: int) -> None:
    """Raises InputError if the settings contradict each other, or do not fit images of `size` pixels."""
    if data.crop is not None and data.crop > size:
        raise InputError(
            f"data.crop: {data.crop} px is more than the dataset's {size} px; "
            f"preprocess with a larger --size, or --set data.crop={size}"
        )
    for name, bounds in (("crop_scale", data.crop_scale), ("crop_aspect", data.crop_aspect)):
        if bounds is not None and bounds[0] > bounds[1]:
            raise InputError(f"data.{name}: {list(bounds)} is not [least, most]; swap the two")
    if data.pad and data.crop_scale is not None:
        raise InputError("data.pad: is for plain crops, and data.crop_scale resizes parts; leave one of them out")
    if data.pad >= side(data, size):
        raise InputError(
            f"data.pad: {data.pad} px would leave crops of {side(data, size)} px without anything of the image; "
            "choose less"
        )


def side(data: Data, size: int) -> int:
    """Pixels per side of a cropped image."""
    return data.crop or size


def image_shape(data: Data, size: int) -> tuple[int, int, int]:
    """[height, width, channels] of a cropped image. Raises InputError if the settings do not fit, as `check` does."""
    check(data, size)
    return side(data, size), side(data, size), 3


@dataclass(frozen=True)
class CropParameters:
    """How each of a batch's n images is cropped, flipped and recoloured.

    `boxes`, int64 [n, 4]: top, left, height, width; black where a box leaves the image. `flipped`, bool [n]: left to
    right. `colour_factors`, float64 [n, 3]: of brightness, contrast and saturation; None leaves colours alone.
    """

    boxes: NDArray[np.int64]
    flipped: NDArray[np.bool_]
    colour_factors: NDArray[np.float64] | None

    def apply(self, index: int, image: Image, out: Image) -> None:
        """Writes image `index` of the batch, uint8 [size, size, 3], into `out`, uint8 [side, side, 3]."""
        top, left, height, width = self.boxes[index].tolist()
        part = image[max(top, 0) : top + height, max(left, 0) : left + width]
        if part.shape[:2] != (height, width):
            above, before = max(-top, 0), max(-left, 0)
            below, after = height - above - part.shape[0], width - before - part.shape[1]
            part = cv2.copyMakeBorder(part, above, below, before, after, cv2.BORDER_CONSTANT)
        flipped = bool(self.flipped[index])
        if part.shape != out.shape:
            rows, columns = out.shape[:2]
            # Means over areas take five times as long, so only if it shrinks so much that pixels would be skipped.
            shrinks = min(height / rows, width / columns)
            kind = cv2.INTER_AREA if shrinks >= SHRINKS_MUCH else cv2.INTER_LINEAR
            part = cv2.resize(part, (columns, rows), interpolation=kind)
        if flipped:
            cv2.flip(part, 1, dst=out)
        else:
            cv2.copyTo(part, None, dst=out)  # in less time than numpy, which copies row by row
        if self.colour_factors is not None:
            _recolour(out, *self.colour_factors[index].tolist())


def stored_crops(size: int, count: int) -> CropParameters:
    """Whole images of `size` pixels, as they are."""
    return CropParameters(np.tile(np.array([0, 0, size, size]), (count, 1)), np.zeros(count, np.bool_), None)


def training_crops(
    data: Data, size: int, seed: int, epoch: int, position: int, part: slice = slice(None)
) -> CropParameters:
    """The crops of the images `part` of batch `position` of an epoch, a global batch; by default of all of them.

    Random numbers are drawn for the whole batch, so that an image's do not depend on the part.
    """
    count, to = data.batch, side(data, size)
    random = random_stream("augment", seed, epoch, position)
    if data.crop_scale is None:
        corners = random.integers(size + 2 * data.pad - to + 1, size=(count, 2))[part] - data.pad
        boxes = np.concatenate([corners, np.full((len(corners), 2), to)], axis=1)
    else:
        least, most = (math.log(aspect) for aspect in data.crop_aspect)
        areas = random.uniform(*data.crop_scale, (count, _ATTEMPTS))
        aspects = random.uniform(least, most, (count, _ATTEMPTS))
        boxes = _boxes(areas[part], aspects[part], random.random((count, 2))[part], size)
    flipped = random.random(count)[part] < 0.5 if data.flip else np.zeros(len(boxes), np.bool_)
    colour_factors = random.uniform(1 - data.colour, 1 + data.colour, (count, 3))[part] if data.colour else None
    return CropParameters(boxes, flipped, colour_factors)


def centre_crops(data: Data, size: int, count: int) -> CropParameters:
    """The centre crop of `count` images; the margin's odd pixel is below and to the right."""
    to = side(data, size)
    margin = (size - to) // 2
    return CropParameters(np.tile(np.array([margin, margin, to, to]), (count, 1)), np.zeros(count, np.bool_), None)


def _boxes(
    areas: NDArray[np.float64], aspects: NDArray[np.float64], corners: NDArray[np.float64], size: int
) -> NDArray[np.int64]:
    """Boxes of random area and aspect, as Szegedy et al., 2015 ("Going deeper with convolutions") crop them.

    Args:
        areas: fractions of the image's, a row of attempts for each box: the first that fits counts.
        aspects: logarithms of width to height, as many.
        corners: where the box lies, as fractions of the room there is for its top and its left, [n, 2].
        size: of the image.
    """
    area = areas * size * size
    ratio = np.exp(aspects)
    heights = np.maximum(1, np.rint(np.sqrt(area / ratio))).astype(np.int64)
    widths = np.maximum(1, np.rint(np.sqrt(area * ratio))).astype(np.int64)
    fits = (heights <= size) & (widths <= size)
    chosen = np.arange(len(fits)), fits.argmax(axis=1)
    whole = ~fits.any(axis=1)
    height, width = (np.where(whole, size, sides[chosen]) for sides in (heights, widths))
    top = np.floor(corners[:, 0] * (size - height + 1)).astype(np.int64)
    left = np.floor(corners[:, 1] * (size - width + 1)).astype(np.int64)
    return np.stack([top, left, height, width], axis=1)


def _recolour(image: Image, brightness: float, contrast: float, saturation: float) -> None:
    """Brightness, then contrast about the mean grey, then saturation, in place and in one pass.

    All three are affine in (R, G, B), so that one matrix does them.
    """
    grey = float(GREY @ cv2.mean(image)[:3])
    matrix = np.empty((3, 4))
    matrix[:, :3] = saturation * np.eye(3) + (1 - saturation) * GREY
    matrix[:, :3] *= brightness * contrast
    matrix[:, 3] = (1 - contrast) * brightness * grey
    cv2.transform(image, matrix, dst=image)
