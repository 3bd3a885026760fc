"""The step against a float64 re-implementation in NumPy, written from the papers' formulas."""

import numpy as np
import pytest

from lottery.experiment.sections import Model
from lottery.tickets import masks
from tests.lottery.small_training import BATCH, CLASSES, OPTIMIZERS, arrays, batches, config, trainer

STEPS = 50
LAYERS = ("hidden", "classifier")


class Reference:
    """Two dense layers and softmax, trained in float64."""

    def __init__(self, state, mask, optimizer, decay=0.0, decoupled=False, clip=None, smoothing=0.0):
        paths = [path for path in state if path.split("/")[-2] in LAYERS and not path.startswith("optimizer/")]
        self.weights = {path: state[path].astype(np.float64) for path in paths}
        self.slots = {path: [np.zeros_like(weight)] * 2 for path, weight in self.weights.items()}
        self.mask, self.optimizer, self.decay, self.decoupled = mask, optimizer, decay, decoupled
        self.clip, self.smoothing, self.steps = clip, smoothing, 0

    def gradients(self, images, labels):
        kernel1, bias1, kernel2, bias2 = self.weights.values()  # in the model's order
        inputs = ((images.astype(np.float64) - 100.0) / 50.0).reshape(BATCH, -1)
        hidden = np.maximum(inputs @ kernel1 + bias1, 0)
        logits = hidden @ kernel2 + bias2
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        likelihood = exponents / exponents.sum(axis=1, keepdims=True)
        targets = np.eye(CLASSES)[labels] * (1 - self.smoothing) + self.smoothing / CLASSES
        loss = -(targets * np.log(likelihood)).sum() / BATCH
        by_logits = (likelihood - targets) / BATCH
        by_hidden = (by_logits @ kernel2.T) * (hidden > 0)
        found = {
            "hidden/kernel": inputs.T @ by_hidden,
            "hidden/bias": by_hidden.sum(axis=0),
            "classifier/kernel": hidden.T @ by_logits,
            "classifier/bias": by_logits.sum(axis=0),
        }
        return loss, {path: next(g for end, g in found.items() if path.endswith(end)) for path in self.weights}

    def step(self, images, labels, rate):
        loss, gradients = self.gradients(images, labels)
        gradients = {path: gradient * self.mask.get(path, 1.0) for path, gradient in gradients.items()}
        if self.clip is not None:
            norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
            gradients = {path: gradient * min(1.0, self.clip / norm) for path, gradient in gradients.items()}
        self.steps += 1
        for path, gradient in gradients.items():
            weight = self.weights[path]
            decay = self.decay if path.endswith("kernel") else 0.0
            if self.decoupled:
                weight = weight - rate * decay * weight
            else:
                gradient = gradient + decay * weight
            weight = weight - rate * self.direction(path, gradient)
            self.weights[path] = weight * self.mask.get(path, 1.0)
        return loss

    def direction(self, path, gradient):
        first, second = self.slots[path]
        if self.optimizer in ("adam", "adamw"):
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            self.slots[path] = [first, second]
            correction = np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
            return correction * first / (np.sqrt(second) + 1e-7)
        momentum = 0.0 if self.optimizer == "sgd" else 0.9
        first = momentum * first + gradient
        self.slots[path] = [first, second]
        return gradient + momentum * first if self.optimizer == "nesterov" else first


CASES = [(optimizer, {"weight_decay": 0.05}) for optimizer in OPTIMIZERS] + [
    ("momentum", {"weight_decay": 0.05, "weight_decay_kind": "decoupled"}),
    ("adam", {"weight_decay": 0.05, "weight_decay_kind": "decoupled"}),
    ("momentum", {"weight_decay": 0.05, "clip_norm": 0.2, "label_smoothing": 0.1}),
]


@pytest.mark.parametrize(("optimizer", "training"), CASES)
def test_50_masked_steps_agree_with_float64_numpy(tensorflow, optimizer, training):
    trained = trainer(tensorflow, config(optimizer, Model("tests.lottery.own_models:two_layers"), **training))
    start = trained.first_state(0)
    (mask,) = masks.global_magnitude_masks({path: start[path] for path in trained.kernels}, [0.4])
    start |= {path: start[path] * kept for path, kept in mask.items()}
    images, labels = batches(STEPS)
    rates = np.linspace(0.01, 0.001, STEPS).astype(np.float32)  # so that a rate at the wrong step shows
    trained.load(start, mask)
    losses = trained.run(images, labels, rates)
    reference = Reference(
        start,
        mask,
        optimizer,
        training["weight_decay"],
        optimizer == "adamw" or training.get("weight_decay_kind") == "decoupled",
        training.get("clip_norm"),
        training.get("label_smoothing", 0.0),
    )
    expected = [reference.step(*batch) for batch in zip(images, labels, rates, strict=True)]
    assert np.allclose(losses, expected, rtol=1e-3, atol=1e-4)
    state = arrays(trained.state())
    for path, weight in reference.weights.items():
        assert np.abs(weight - start[path]).max() > 1e-3, path
        assert np.allclose(state[path], weight, rtol=1e-3, atol=2e-5), path
