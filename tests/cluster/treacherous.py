"""A user's own model, for spark-submit's --py-files, that makes a few of its tickets fail."""

from __future__ import annotations

import keras
from keras import ops

from lottery.architectures import small

# Only level 2 of the small sweep keeps fewer weights than the first, and only levels 1 and 2 fewer than the second.
_FEWEST, _FEW = 1000, 3000
DIVERGES_AT = 5  # step
_TOO_MUCH = 2**48  # floats: more than an address has room for


class Treachery(keras.layers.Layer):
    """Passes logits on unchanged, unless few weights before it are left and training has just begun.

    The network with the fewest weights asks for a petabyte at its first step. The one with few weights has NaN logits
    at step `DIVERGES_AT`. Networks reset to a later step are past that, because the count of steps is state.
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__(name="treachery")
        self._weights_before = lambda: model.trainable_variables  # a layer's own attributes would be saved with it

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False, name="steps")

    def call(self, logits: object, training: bool = False) -> object:
        if not training:
            return logits
        kernels = [weight for weight in self._weights_before() if weight.path.endswith("kernel")]
        left = sum(ops.count_nonzero(kernel) for kernel in kernels)
        first, last = self.steps.value == 0, self.steps.value == DIVERGES_AT
        self.steps.assign(self.steps + 1)
        much, little = (ops.convert_to_tensor(size, dtype="int64") for size in (_TOO_MUCH, 1))
        size = ops.where(ops.logical_and(left < _FEWEST, first), much, little)
        diverges = ops.logical_and(ops.logical_and(left >= _FEWEST, left < _FEW), last)
        one = ops.max(ops.ones(ops.reshape(size, (1,))))
        return logits * ops.where(diverges, float("nan"), one)


def conv_small(shape: tuple[int, int, int], classes: int) -> keras.Model:
    """The digits' model, with the same weights and results except where it fails."""
    model = small.conv_small(shape, classes)
    return keras.Model(model.inputs, Treachery(model)(model.outputs[0]), name="treacherous")
