"""Scores by derivatives, against the same network by hand in NumPy and float64."""

from __future__ import annotations

import numpy as np
import pytest

from lottery.experiment.sections import Model

SHAPE, CLASSES, UNITS, IMAGES = (2, 2, 1), 3, 4, 5
FIRST, SECOND = "two/first/kernel", "two/second/kernel"
MOMENTS = (100.0,), (50.0,)


@pytest.fixture
def state():
    random = np.random.default_rng(3)
    return {
        FIRST: random.normal(size=(4, UNITS)).astype(np.float32),
        SECOND: random.normal(size=(UNITS, CLASSES)).astype(np.float32),
        "two/first/bias": random.normal(size=UNITS).astype(np.float32),
        "two/second/bias": random.normal(size=CLASSES).astype(np.float32),
    }


@pytest.fixture
def data():
    random = np.random.default_rng(4)
    return random.integers(0, 256, (IMAGES, *SHAPE)).astype(np.uint8), np.array([0, 2, 1, 1, 0], np.int32)


@pytest.fixture
def scorer(tensorflow, state):
    from lottery.training.mask_scores import MaskScorer
    from tests.lottery.small_training import config

    own = Model("tests.lottery.mask_models:two_layers", {"units": UNITS, "bias": True})
    return MaskScorer(config(model=own), SHAPE, CLASSES, MOMENTS, state, [FIRST, SECOND])


def by_hand(first, second, state, data, temperature=1.0):
    """The gradients of the mean cross-entropy by both kernels, in float64."""
    images, labels = data
    inputs = (images.reshape(IMAGES, -1).astype(float) - 100) / 50
    before = inputs @ first + state["two/first/bias"]
    hidden = np.maximum(before, 0)
    logits = (hidden @ second + state["two/second/bias"]) / temperature
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    error = (shares - np.eye(CLASSES)[labels]) / IMAGES / temperature
    return inputs.T @ ((error @ second.T) * (before > 0)), hidden.T @ error


def batches(data, size):
    def read():
        return ((data[0][first : first + size], data[1][first : first + size]) for first in range(0, IMAGES, size))

    return read


@pytest.mark.parametrize("size", [IMAGES, 2], ids=["one batch", "batches of 2, 2 and 1"])
def test_gradients_and_snip(scorer, state, data, size):
    first, second = by_hand(state[FIRST].astype(float), state[SECOND].astype(float), state, data)
    gradients = scorer.gradients(batches(data, size), IMAGES)
    assert np.allclose(gradients[FIRST], first, atol=1e-5)
    assert np.allclose(gradients[SECOND], second, atol=1e-5)
    scores = scorer.snip(batches(data, size), IMAGES)
    assert np.allclose(scores[FIRST], np.abs(state[FIRST] * first), atol=1e-5)
    assert np.allclose(scores[SECOND], np.abs(state[SECOND] * second), atol=1e-5)


@pytest.mark.parametrize("size", [IMAGES, 2], ids=["one batch", "batches of 2, 2 and 1"])
def test_grasp_is_weight_times_hessian_times_gradient_at_a_temperature_of_200(scorer, state, data, size):
    weights = state[FIRST].astype(float), state[SECOND].astype(float)
    along, step = by_hand(*weights, state, data, 200), 1e-3
    ahead, behind = (
        by_hand(*(w + sign * step * g for w, g in zip(weights, along, strict=True)), state, data, 200)
        for sign in (1, -1)
    )
    scores = scorer.grasp(batches(data, size), IMAGES)
    for path, weight, plus, minus in zip((FIRST, SECOND), weights, ahead, behind, strict=True):
        expected = weight * (plus - minus) / (2 * step)
        assert np.abs(expected).max() > 1e-9
        assert np.allclose(scores[path], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_grasp_keeps_the_weights_without_which_the_gradient_would_lose_norm(scorer, state, data):
    """The sign, told from what it is for: the change of |g|^2 when a weight is made a little smaller."""
    scores = scorer.grasp(batches(data, IMAGES), IMAGES)[SECOND]

    def norm(second):
        return sum((part**2).sum() for part in by_hand(state[FIRST].astype(float), second, state, data, 200))

    second = state[SECOND].astype(float)
    for place in (np.unravel_index(scores.argmax(), scores.shape), np.unravel_index(scores.argmin(), scores.shape)):
        shrunk = second.copy()
        shrunk[place] *= 1 - 1e-4
        assert np.sign(norm(shrunk) - norm(second)) == -np.sign(scores[place])


def test_grasp_is_right_through_batch_norm(tensorflow):
    """A kernel before batch norm can be scaled without effect, so that (Hg) x kernel sums to -|g|^2 there (Euler)."""
    from lottery.training.mask_scores import MaskScorer
    from lottery.training.trainer import Trainer
    from tests.lottery.small_training import config, strategy

    chosen, random = config(model=Model("resnet8", {"width": 4})), np.random.default_rng(0)
    images = random.integers(0, 256, (24, 16, 16, 3)).astype(np.uint8)
    labels = random.integers(0, 10, 24).astype(np.int32)
    trained = Trainer(chosen, (16, 16, 3), 10, (127.0,) * 3, (60.0,) * 3, strategy(1))
    moments = (127.0,) * 3, (60.0,) * 3
    scorer = MaskScorer(chosen, (16, 16, 3), 10, moments, trained.first_state(0), trained.kernels)

    def read():
        return iter([(images[:12], labels[:12]), (images[12:], labels[12:])])

    scores, gradients = scorer.grasp(read, 24), scorer._total(read, 24, scorer._cool_gradient)
    for path in trained.kernels[:-1]:  # all but the classifier's
        assert np.isclose(scores[path].sum(), -(gradients[path] ** 2).sum(), rtol=0.003), path


def test_synaptic_flow_is_that_of_absolute_values_on_inputs_of_1(scorer, state):
    mask = {FIRST: np.ones((4, UNITS), bool), SECOND: np.ones((UNITS, CLASSES), bool)}
    mask[FIRST][1, 2] = mask[SECOND][0, 0] = False
    scores = scorer.synaptic_flow()(mask)
    first, second = (np.abs(state[path].astype(float)) * mask[path] for path in (FIRST, SECOND))
    hidden = first.sum(axis=0) + np.abs(state["two/first/bias"].astype(float))
    assert scores[FIRST].dtype == np.float64
    assert np.allclose(scores[FIRST], first * second.sum(axis=1)[None, :], rtol=1e-12)
    assert np.allclose(scores[SECOND], second * hidden[:, None], rtol=1e-12)


def test_synaptic_flow_through_a_deep_network_is_finite_and_reaches_every_kernel(tensorflow):
    """ResNet-50's activations of absolute values exceed what float32 holds."""
    from lottery.training.mask_scores import MaskScorer
    from lottery.training.trainer import Trainer
    from tests.lottery.small_training import config, strategy

    chosen = config(model=Model("resnet50", {"width": 8}))
    trained = Trainer(chosen, (32, 32, 3), 10, (0.0,) * 3, (1.0,) * 3, strategy(1))
    state = trained.first_state(0)
    state = {
        path: value * np.float32(30) if path in trained.kernels else value
        for path, value in trained.first_state(0).items()
    }
    scorer = MaskScorer(chosen, (32, 32, 3), 10, ((0.0,) * 3, (1.0,) * 3), state, trained.kernels)
    scores = scorer.synaptic_flow()({path: np.ones(shape, bool) for path, shape in trained.kernel_shapes.items()})
    assert max(score.max() for score in scores.values()) > np.finfo(np.float32).max
    assert all(np.isfinite(score).all() and score.any() for score in scores.values())
