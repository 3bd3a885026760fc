import itertools

import numpy as np
import pytest
from msgspec.structs import replace

from lottery.experiment import config as experiment
from lottery.experiment.sections import Masks, Model
from tests.lottery.small_training import (
    CLASSES,
    OPTIMIZERS,
    SHAPE,
    arrays,
    batches,
    config,
    evaluate,
    masked_start,
    rates,
    same,
    strategy,
    trainer,
)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_masked_weights_and_slots_are_0_after_steps_with_carried_slots(tensorflow, optimizer):
    trained = trainer(tensorflow, config(optimizer))
    images, labels = batches(6)
    trained.load(trained.first_state(0), None)
    trained.run(images, labels, rates(6))  # so that the slots that are carried over are not 0
    start, mask = masked_start(trained, trained.state())
    trained.load(start, mask)
    trained.run(images, labels, rates(6))
    state = arrays(trained.state())
    assert sum(len(trained.slots(kernel)) for kernel in mask) == len(mask) * {"sgd": 0, "adam": 2, "adamw": 2}.get(
        optimizer, 1
    )
    for kernel, kept in mask.items():
        for path in (kernel, *trained.slots(kernel)):
            assert not state[path][~kept].any(), path
        assert not np.array_equal(state[kernel], start[kernel])


def test_the_mask_is_what_keeps_them_0(tensorflow):
    """The counterpart of the test above: the same steps without the mask revive the weights."""
    trained = trainer(tensorflow, config())
    images, labels = batches(3)
    start, mask = masked_start(trained, trained.first_state(0))
    trained.load(start, None)
    trained.run(images, labels, rates(3))
    state = arrays(trained.state())
    assert any(state[kernel][~kept].any() for kernel, kept in mask.items())


def test_runs_of_any_length_give_the_same_bits(tensorflow):
    trained = trainer(tensorflow, config())
    images, labels = batches(7)
    start = trained.first_state(0)
    trained.load(start, None)
    whole = trained.run(images, labels, rates(7))
    at_once = arrays(trained.state())
    trained.load(start, None)
    parts = [trained.run(images[a:b], labels[a:b], rates(b - a)) for a, b in ((0, 1), (1, 5), (5, 7))]
    assert same(at_once, arrays(trained.state()))
    assert np.array_equal(whole, np.concatenate(parts))


def test_first_state_is_a_function_of_the_seed(tensorflow):
    trained = trainer(tensorflow, config())
    assert same(trained.first_state(3), trained.first_state(3))
    assert same(trained.first_state(3), trainer(tensorflow, config()).first_state(3))
    assert not same(trained.first_state(3), trained.first_state(4))


def test_two_replicas_agree_with_one(tensorflow):
    images, labels = batches(5)
    one, two = trainer(tensorflow, config()), trainer(tensorflow, config(), devices=2)
    start = one.first_state(0)
    for trained in (one, two):
        trained.load(start, None)
    assert np.allclose(one.run(images, labels, rates(5)), two.run(images, labels, rates(5)), atol=1e-5)
    ours, theirs = arrays(one.state()), arrays(two.state())
    assert max(np.abs(ours[path] - theirs[path]).max() for path in ours) < 1e-5


def test_a_batch_that_does_not_divide_among_devices_is_refused(tensorflow):
    from preprocessing.common.errors import InputError

    odd = experiment.from_tree({**experiment.to_tree(config()), "data": {"batch": 7}}, "a test")
    with pytest.raises(InputError, match="data.batch: 7"):
        trainer(tensorflow, odd, devices=2)


def test_a_constant_channel_trains_as_if_it_were_not_there(tensorflow):
    """Its deviation is 0, and what is divided by it would be NaN: the loss would stay finite, the weights would not."""
    from lottery.training.trainer import Trainer

    images, labels = batches(3)
    images[..., 1] = 7
    found = []
    for deviation in (0.0, 1.0):
        trained = Trainer(config(), SHAPE, CLASSES, (100.0, 7.0, 100.0), (50.0, deviation, 50.0), strategy(1))
        trained.load(trained.first_state(0), None)
        losses = trained.run(images, labels, rates(3))
        assert np.isfinite(losses).all()
        found.append(arrays(trained.state()))
        assert all(np.isfinite(value).all() for value in found[-1].values())
    assert same(*found)


def test_the_classifier_is_told_on_several_devices_too(tensorflow):
    own = Model("tests.lottery.own_models:all_kinds_of_state")
    chosen = replace(config(model=own), masks=Masks((0.5,), classifier=False))
    one, two = trainer(tensorflow, chosen), trainer(tensorflow, chosen, devices=2)
    assert one.kernels == two.kernels
    assert [path.split("/")[-2] for path in two.kernels] == ["conv", "hidden"]
    assert same(one.first_state(0), two.first_state(0))


def test_a_subclassed_model_that_does_not_ask_whether_it_is_trained(tensorflow):
    trained = trainer(tensorflow, config(model=Model("tests.lottery.own_models:subclassed")))
    trained.load(trained.first_state(0), None)
    losses = trained.run(*batches(8), rates(8))
    assert losses[-1] < losses[0]


def test_it_learns_and_scores(tensorflow):
    trained = trainer(tensorflow, config())
    trained.load(trained.first_state(0), None)
    images, labels = batches(150)
    before = evaluate(trained, trained.state(), zip(images, labels, strict=True))
    trained.run(images, labels, rates(150, 0.01))
    after = evaluate(trained, trained.state(), zip(images, labels, strict=True))
    assert before.top1 < 0.6 < 0.95 < after.top1
    assert after.loss < before.loss
    assert after.top5 == 1.0  # of four classes


def test_scores_are_means_over_images_however_they_are_batched(tensorflow):
    """On two replicas too, one of which gets nothing of a batch of 1; and a worker nothing of a share of 0."""
    images, labels = batches(3)
    images, labels = images.reshape(-1, *SHAPE), labels.ravel()
    edges = (0, 8, 15, 15, 24, 24)
    found = []
    for devices in (1, 2):
        trained = trainer(tensorflow, config(), devices)
        state = trained.first_state(0)
        found.append(evaluate(trained, state, [(images, labels)]))
        found.append(evaluate(trained, state, ((images[a:b], labels[a:b]) for a, b in itertools.pairwise(edges))))
        found.append(evaluate(trained, state, ((images[a : a + 1], labels[a : a + 1]) for a in range(24))))
    assert 0 < found[0].top1 < 1
    for other in found[1:]:
        assert (other.top1, other.top5) == (found[0].top1, found[0].top5)
        assert other.loss == pytest.approx(found[0].loss, rel=1e-6)


def test_a_constant_output_is_right_by_chance_only(tensorflow):
    from lottery.training.scores import in_top_k

    logits = tensorflow.zeros([6, 6])
    labels = tensorflow.range(6)
    assert in_top_k(logits, labels, 1).numpy().tolist() == [True] + [False] * 5
    assert in_top_k(logits, labels, 5).numpy().tolist() == [True] * 5 + [False]


def test_hits_are_the_likeliest_classes(tensorflow):
    from lottery.training.scores import in_top_k

    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(50, 20)).astype(np.float32), random.integers(20, size=50).astype(np.int32)
    order = np.argsort(-logits, axis=1)
    for top in (1, 5):
        expected = [label in row[:top] for label, row in zip(labels, order, strict=True)]
        assert in_top_k(tensorflow.constant(logits), tensorflow.constant(labels), top).numpy().tolist() == expected


def test_logits_that_are_not_finite_hit_nothing(tensorflow):
    from lottery.training.scores import in_top_k

    logits = tensorflow.constant([[np.nan, 0.0, 1.0], [1.0, 0.0, np.inf], [2.0, 0.0, 1.0]])
    assert in_top_k(logits, tensorflow.constant([2, 0, 0]), 3).numpy().tolist() == [False, False, True]


def test_a_state_of_another_model_is_refused(tensorflow):
    from preprocessing.common.errors import InputError

    trained = trainer(tensorflow, config())
    state = trained.first_state(0)
    with pytest.raises(InputError, match="model conv_small: has .*give it another name"):
        trained.check({path: value[..., :1] if value.ndim == 4 else value for path, value in state.items()})
    trained.check(state)


def test_python_that_decides_by_a_tensor_is_named_in_a_line(tensorflow):
    """The model can be built: only in training it decides."""
    from preprocessing.common.errors import InputError

    trained = trainer(tensorflow, config(model=Model("tests.lottery.own_models:decides_in_training")))
    with pytest.raises(
        InputError, match=r"model .*:decides_in_training: .*own_models.py line .*keras.ops.where"
    ) as error:
        trained.run(*batches(1), rates(1))
    assert "\n" not in str(error.value)


def test_a_model_without_kernels_to_prune_is_refused(tensorflow):
    from preprocessing.common.errors import InputError

    chosen = config(model=Model("tests.lottery.own_models:nothing_to_prune"))
    with pytest.raises(InputError, match="nothing_to_prune: has no kernels to prune"):
        trainer(tensorflow, replace(chosen, masks=Masks((0.5,), classifier=False)))
