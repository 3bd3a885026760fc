"""A ticket's state as flat vectors: where variables lie, that it never changes, and that it moves as a whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as draw
from hypothesis.extra import numpy as arrays_of

from lottery.experiment.sections import Model
from tests.lottery.small_training import arrays, batches, config, masked_start, rates, same, trainer

SHAPES = draw.lists(draw.lists(draw.integers(0, 5), max_size=4).map(tuple), min_size=1, max_size=6)


@given(SHAPES, draw.sampled_from(["float32", "int64", "float64", "bool"]), draw.data())
def test_what_is_packed_comes_out_again_and_begins_aligned(shapes, dtype, data):
    from lottery.training.layout import Layout

    layout = Layout({f"v{index}": shape for index, shape in enumerate(shapes)}, dtype)
    variables = {path: data.draw(arrays_of.arrays(dtype, place.shape)) for path, place in layout.places.items()}
    vector = layout.pack(variables)
    assert (vector.shape, vector.dtype) == ((layout.size,), layout.dtype)
    for path, variable in variables.items():
        assert layout.places[path].begin * layout.dtype.itemsize % 64 == 0
        assert np.array_equal(layout.array(vector, path), variable, equal_nan=variable.dtype.kind == "f")
    ends = sum(variable.size for variable in variables.values())
    assert np.count_nonzero(vector) <= ends  # nothing but 0 between them


def test_slices_join_to_the_vector_again(tensorflow):
    from lottery.training.layout import Layout

    layout = Layout({"a": (3, 16), "b": (5,), "c": (2, 8)}, "float32")
    vector = tensorflow.constant(layout.pack({path: np.ones(place.shape) for path, place in layout.places.items()}))
    whole, parts = vector.numpy(), {path: tensor.numpy() for path, tensor in layout.split(vector).items()}
    assert {path: part.shape for path, part in parts.items()} == {"a": (3, 16), "b": (5,), "c": (2, 8)}
    assert np.array_equal(layout.join(parts).numpy(), whole)


def test_the_number_of_vectors_does_not_depend_on_the_model(tensorflow):
    small = trainer(tensorflow, config(model=Model("tests.lottery.own_models:with_batch_norm")))
    large = trainer(tensorflow, config(model=Model("resnet20", {"width": 4})))
    found = [len(each.state().vectors) for each in (small, large)]
    assert found[0] == found[1] <= 6
    assert len(large.state()) > 150


def test_a_state_does_not_change_when_training_goes_on(tensorflow):
    trained = trainer(tensorflow, config("adam"))
    images, labels = batches(3)
    trained.load(trained.first_state(0), None)
    trained.run(images, labels, rates(3))
    held, copy = trained.state(), {path: value.copy() for path, value in trained.state().items()}
    late = trained.state()
    trained.run(images, labels, rates(3))
    assert same(copy, arrays(held))
    assert same(copy, arrays(late))  # copied from the device only now
    assert not same(copy, arrays(trained.state()))


def test_a_run_that_fails_leaves_the_state_as_it_was(tensorflow):
    """An error in its second step, when the variables have already changed."""
    trained = trainer(tensorflow, config())
    images, labels = batches(2)
    trained.load(trained.first_state(0), None)
    trained.run(images, labels, rates(2))
    before, copy = trained.state(), arrays(trained.state())
    with pytest.raises(tensorflow.errors.InvalidArgumentError):
        trained.run(images, labels[:1], rates(2))
    assert trained.state() is before
    assert same(copy, arrays(trained.state()))


def test_a_vector_is_copied_from_the_device_once(tensorflow, monkeypatch):
    trained = trainer(tensorflow, config())
    trained.load(trained.first_state(0), None)
    trained.run(*batches(1), rates(1))
    state, copied = trained.state(), []
    kind = type(next(iter(state.vectors.values()))[0])
    numpy = kind.numpy
    monkeypatch.setattr(kind, "numpy", lambda tensor: copied.append(id(tensor)) or numpy(tensor))
    for _ in range(2):
        arrays(state)
    assert sorted(copied) == sorted(id(vector) for (vector,) in state.vectors.values())


@pytest.mark.parametrize("devices", [1, 2])
def test_states_masks_and_images_stay_on_each_device_that_computes(devices, tensorflow):
    """Else each run would copy them from the first one; and a mask is copied there once for all of its tickets."""
    trained = trainer(tensorflow, config("adam"), devices)
    start, mask = masked_start(trained, trained.first_state(0))
    other = {path: ~kept for path, kept in mask.items()}
    images, labels = batches(2)
    parts, found = trained.split(images), []
    for each in (mask, other, mask):
        trained.load(start, each)
        trained.run(parts, labels, rates(2))
        found.append(trained._mask_on_device(each))
        for copies in (parts, found[-1], *trained.state().vectors.values()):
            assert [tensor.device[-5:] for tensor in copies] == ["CPU:0", "CPU:1"][:devices]
    assert found[0] is found[2] is not found[1]
    assert [part.shape[1] for part in parts] == [images.shape[1] // devices] * devices


def test_every_device_has_the_same_state(tensorflow):
    trained = trainer(tensorflow, config("adam"), devices=2)
    trained.load(trained.first_state(0), None)
    trained.run(*batches(3), rates(3))
    for one, other in trained.state().vectors.values():
        assert np.array_equal(one, other)


def test_two_variables_of_one_name_are_refused(tensorflow):
    from preprocessing.common.errors import InputError

    with pytest.raises(InputError, match="two variables are called .*; give layers distinct names") as error:
        trainer(tensorflow, config(model=Model("tests.lottery.own_models:one_name_twice")))
    assert type(error.value) is InputError


def test_a_weight_that_is_not_float32_is_refused(tensorflow):
    from preprocessing.common.errors import InputError

    with pytest.raises(InputError, match="model .*:double: weight .* is float64; make it float32") as error:
        trainer(tensorflow, config(model=Model("tests.lottery.own_models:double")))
    assert type(error.value) is InputError
