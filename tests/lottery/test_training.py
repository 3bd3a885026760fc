import numpy as np
import pytest

from lottery import experiment, masks
from lottery.experiment import Data, Experiment, LearningRate, Masks, Model, Training

SHAPE = (8, 8, 3)
CLASSES = 4
BATCH = 8
OPTIMIZERS = {
    "sgd": experiment.SGD(),
    "momentum": experiment.SGD(momentum=0.9),
    "nesterov": experiment.SGD(momentum=0.9, nesterov=True),
    "adam": experiment.Adam(),
    "adamw": experiment.AdamW(),
}


def config(optimizer="momentum", **training):
    return Experiment(
        name="tiny",
        data=Data(batch=BATCH),
        model=Model("conv_small", {"filters": 4, "units": 16}),
        training=Training(
            length=20,
            optimizer=OPTIMIZERS[optimizer],
            learning_rate=LearningRate(0.05),
            **{"weight_decay": 1e-2, **training},
        ),
        trellis=(0,),
        masks=Masks((0.5,)),
    )


def trainer(tensorflow, chosen, devices=1):
    from lottery.training import Trainer

    names = [f"/cpu:{index}" for index in range(devices)]
    one = tensorflow.distribute.OneDeviceStrategy(names[0])
    strategy = one if devices == 1 else tensorflow.distribute.MirroredStrategy(names)
    return Trainer(chosen, SHAPE, CLASSES, (100.0,) * 3, (50.0,) * 3, strategy)


def batches(steps, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(CLASSES, size=(steps, BATCH)).astype(np.int32)
    images = random.integers(100, size=(steps, BATCH, *SHAPE)) + 40 * labels[..., None, None, None]
    return images.astype(np.uint8), labels


def rates(steps, rate=0.05):
    return np.full(steps, rate, np.float32)


def arrays(state):
    return {path: np.asarray(value) for path, value in state.items()}


def same(one, other):
    return all(np.array_equal(one[path], other[path]) for path in one) and one.keys() == other.keys()


def masked_start(trained, state, density=0.3):
    kernels = {path: np.asarray(state[path]) for path in trained.kernels}
    (mask,) = masks.global_magnitude_masks(kernels, [density])
    start = dict(state)
    for kernel, kept in mask.items():
        for path in (kernel, *trained.slots(kernel)):
            start[path] = np.asarray(start[path]) * kept
    return start, mask


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
    from preprocessing.errors import InputError

    odd = experiment.from_tree({**experiment.to_tree(config()), "data": {"batch": 7}}, "a test")
    with pytest.raises(InputError, match="data.batch: 7"):
        trainer(tensorflow, odd, devices=2)


def test_it_learns_and_scores(tensorflow):
    trained = trainer(tensorflow, config())
    trained.load(trained.first_state(0), None)
    images, labels = batches(150)
    before = trained.evaluate(zip(images, labels, strict=True))
    trained.run(images, labels, rates(150, 0.01))
    after = trained.evaluate(zip(images, labels, strict=True))
    assert before.top1 < 0.6 < 0.95 < after.top1
    assert after.loss < before.loss
    assert after.top5 == 1.0  # of four classes


def test_scores_are_means_over_images_however_they_are_batched(tensorflow):
    trained = trainer(tensorflow, config())
    trained.load(trained.first_state(0), None)
    images, labels = batches(3)
    whole = trained.evaluate([(images.reshape(-1, *SHAPE), labels.ravel())])
    parts = trained.evaluate([(images[0], labels[0]), (images[1:].reshape(-1, *SHAPE), labels[1:].ravel())])
    assert whole.top1 == parts.top1
    assert whole.loss == pytest.approx(parts.loss, rel=1e-6)


def test_prunable_are_kernels_with_or_without_the_classifier(tensorflow):
    from lottery import models

    model = models.build(Model("mobilenet_v2", {"alpha": 0.35}), (32, 32, 3), 10, 0)
    kernels = [variable.path for variable in models.prunable_kernels(model, classifier=True)]
    assert len(kernels) == 53  # 52 convolutions, 17 of them depthwise, and the classifier
    assert sum("depthwise" in path for path in kernels) == 17
    assert not any("bn" in path.lower() or "bias" in path for path in kernels)
    without = [variable.path for variable in models.prunable_kernels(model, classifier=False)]
    assert without == kernels[:-1]


def test_published_parameter_counts(tensorflow):
    from lottery import models

    assert models.build(Model("mobilenet_v2"), (224, 224, 3), 1000, 0).count_params() == 3_538_984
    kernels = models.prunable_kernels(models.build(Model("conv_small"), SHAPE, 10, 0), classifier=True)
    assert sum(int(np.prod(kernel.shape)) for kernel in kernels) == 36_784


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Model("conv_large"), ["conv_large", "conv_small", "mobilenet_v2"]),
        (Model("conv_small", {"depth": 3}), ["conv_small", "depth"]),
        (Model("no_such_module:build"), ["no_such_module"]),
        (Model("lottery.models:nothing"), ["nothing"]),
    ],
)
def test_bad_models_are_named(tensorflow, model, words):
    from lottery import models
    from preprocessing.errors import InputError

    with pytest.raises(InputError) as error:
        models.build(model, SHAPE, CLASSES, 0)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_a_users_own_model_by_its_module_path(tensorflow):
    from lottery import models

    assert models.build(Model("lottery.models:conv_small"), SHAPE, CLASSES, 0).name == "conv_small"
