import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lottery.experiment.sections import Data
from lottery.input import augment
from preprocessing.common.errors import InputError


def image(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def render(crops, pictures, to):
    out = np.empty((len(pictures), to, to, 3), np.uint8)
    for index, picture in enumerate(pictures):
        crops.apply(index, picture, out[index])
    return out


@settings(deadline=None)
@given(
    size=st.integers(1, 40),
    crop=st.integers(1, 40),
    flip=st.booleans(),
    scale=st.none() | st.sampled_from([(0.08, 1.0), (1.0, 1.0), (0.001, 0.01)]),
    aspect=st.sampled_from([(0.75, 4 / 3), (1.0, 1.0), (0.01, 100.0)]),
    colour=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 5),
)
def test_crops_lie_within_the_image(size, crop, flip, scale, aspect, colour, seed):
    crop = min(crop, size)
    data = Data(batch=7, crop=crop, flip=flip, crop_scale=scale, crop_aspect=aspect, colour=colour)
    crops = augment.training_crops(data, size, seed, 0, 0)
    top, left, height, width = crops.boxes.T
    assert (np.minimum(np.minimum(top, left), np.minimum(height, width) - 1) >= 0).all()
    assert (np.maximum(top + height, left + width) <= size).all()
    assert render(crops, [image(size)] * 7, crop).shape == (7, crop, crop, 3)


@settings(deadline=None)
@given(
    first=st.integers(0, 30),
    last=st.integers(0, 30),
    scale=st.none() | st.just((0.08, 1.0)),
    flip=st.booleans(),
    colour=st.sampled_from([0.0, 0.5]),
)
def test_a_part_of_a_batch_has_its_own_crops(first, last, scale, flip, colour):
    data = Data(batch=30, crop=9, flip=flip, crop_scale=scale, colour=colour)
    whole = augment.training_crops(data, 20, 1, 2, 3)
    part = augment.training_crops(data, 20, 1, 2, 3, slice(first, last))
    for name in ("boxes", "flipped", "colour_factors"):
        expected = getattr(whole, name)
        assert expected is None or np.array_equal(getattr(part, name), expected[first:last])


def test_a_plain_crop_and_flip_is_part_of_the_image():
    pictures = [image(20, seed) for seed in range(64)]
    crops = augment.training_crops(Data(batch=64, crop=12, flip=True), 20, 0, 3, 5)
    out = render(crops, pictures, 12)
    for index, picture in enumerate(pictures):
        top, left, height, width = crops.boxes[index]
        assert (height, width) == (12, 12)
        part = picture[top : top + 12, left : left + 12]
        assert np.array_equal(out[index], part[:, ::-1] if crops.flipped[index] else part)
    assert 10 < crops.flipped.sum() < 54
    assert set(crops.boxes[:, 0]) == set(crops.boxes[:, 1]) == set(range(9))  # corners too


@pytest.mark.parametrize(("crop", "pad"), [(None, 4), (12, 3), (20, 19)])
def test_a_padded_crop_is_that_of_numpys_padded_image(crop, pad):
    pictures = [image(20, seed) | 1 for seed in range(200)]  # nothing in them is black
    to = crop or 20
    data = Data(batch=200, crop=crop, pad=pad, flip=True)
    crops = augment.training_crops(data, 20, 0, 3, 5)
    out = render(crops, pictures, to)
    for index, picture in enumerate(pictures):
        top, left = crops.boxes[index, :2] + pad
        part = np.pad(picture, ((pad, pad), (pad, pad), (0, 0)))[top : top + to, left : left + to]
        assert np.array_equal(out[index], part[:, ::-1] if crops.flipped[index] else part)
    last = 20 + pad - to
    assert crops.boxes[:, :2].min() == -pad
    assert crops.boxes[:, :2].max() == last
    if last < 20:
        assert set(crops.boxes[:, 0]) == set(crops.boxes[:, 1]) == set(range(-pad, last + 1))


def test_padding_leaves_evaluation_and_what_is_not_padded_alone():
    plain, padded = Data(batch=8, crop=12, flip=True), Data(batch=8, crop=12, pad=2, flip=True)
    assert np.array_equal(augment.centre_crops(plain, 20, 8).boxes, augment.centre_crops(padded, 20, 8).boxes)
    # The first draws of the stream, as released: another order of drawing would change every result there is.
    assert augment.training_crops(plain, 20, 0, 0, 0).boxes[:4, :2].tolist() == [[3, 7], [3, 0], [6, 5], [3, 8]]


def test_a_crop_is_a_function_of_seed_epoch_and_position():
    for data in (
        Data(batch=32, crop=12, flip=True, crop_scale=(0.08, 1.0), colour=0.4),
        Data(batch=32, pad=4, flip=True, colour=0.4),
    ):
        _check_function_of_seed(data)


def _check_function_of_seed(data):
    base = augment.training_crops(data, 20, 0, 0, 0)
    same = augment.training_crops(data, 20, 0, 0, 0)
    for name in ("boxes", "flipped", "colour_factors"):
        assert np.array_equal(getattr(base, name), getattr(same, name))
        for key in [(1, 0, 0), (0, 1, 0), (0, 0, 1)]:
            assert not np.array_equal(getattr(base, name), getattr(augment.training_crops(data, 20, *key), name))


def test_areas_and_aspects_are_those_asked_for():
    data = Data(batch=4000, crop=100, crop_scale=(0.2, 0.5), crop_aspect=(0.8, 1.25))
    _, _, height, width = augment.training_crops(data, 400, 0, 0, 0).boxes.T
    area, aspect = height * width / 400**2, width / height
    assert area.min() > 0.195
    assert area.max() < 0.505
    assert abs(area.mean() - 0.35) < 0.01
    assert aspect.min() > 0.79
    assert aspect.max() < 1.26
    assert abs(np.log(aspect).mean()) < 0.01


def test_colours_are_what_the_three_steps_would_give():
    """Brightness, contrast about the mean grey, saturation: one after the other in float64, without clipping."""
    picture = (image(30) // 4 + 90).astype(np.uint8)  # far from 0 and 255
    crops = augment.training_crops(Data(batch=20, colour=0.3), 30, 0, 0, 0)
    for index, (brightness, contrast, saturation) in enumerate(crops.colour_factors):
        expected = picture.astype(float) * brightness
        grey = expected @ [0.299, 0.587, 0.114]
        expected = (expected - grey.mean()) * contrast + grey.mean()
        grey = expected @ [0.299, 0.587, 0.114]
        expected = saturation * expected + (1 - saturation) * grey[:, :, None]
        out = render(
            augment.CropParameters(crops.boxes[index:], crops.flipped[index:], crops.colour_factors[index:]),
            [picture],
            30,
        )
        assert np.abs(out[0] - np.clip(expected, 0, 255)).max() <= 1


def test_no_change_of_colour_changes_nothing():
    picture = image(16)
    crops = augment.CropParameters(np.array([[0, 0, 16, 16]]), np.array([False]), np.ones((1, 3)))
    assert np.array_equal(render(crops, [picture], 16)[0], picture)


@pytest.mark.parametrize(("size", "crop", "margin"), [(16, 12, 2), (16, 11, 2), (16, None, 0)])
def test_the_centre(size, crop, margin):
    picture, to = image(size), crop or size
    out = render(augment.centre_crops(Data(batch=1, crop=crop), size, 1), [picture], to)
    assert np.array_equal(out[0], picture[margin : margin + to, margin : margin + to])


def test_settings_that_do_not_fit():
    with pytest.raises(InputError, match=r"data\.crop: 20 px is more than the dataset's 16 px; .*--set data\.crop=16"):
        augment.check(Data(batch=1, crop=20), 16)
    with pytest.raises(InputError, match=r"data\.crop_scale: \[1\.0, 0\.5\] is not \[least, most\]"):
        augment.check(Data(batch=1, crop_scale=(1.0, 0.5)), 16)
    with pytest.raises(InputError, match=r"data\.pad: .*data\.crop_scale.*leave one of them out"):
        augment.check(Data(batch=1, pad=4, crop_scale=(0.5, 1.0)), 16)
    with pytest.raises(InputError, match=r"data\.pad: 12 px would leave crops of 12 px without"):
        augment.check(Data(batch=1, pad=12, crop=12), 16)
