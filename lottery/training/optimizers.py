"""Optimizers as rules: the slots of a weight, and one step on a weight and its slots, in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from lottery.experiment.sections import SGD, Adam, AdamW

# (weight, gradient, slots, learning rate, steps before this one) -> None; weight and slots are tf.Variables of one
# device. TensorFlow's fused kernels do it in one pass over memory.
Update = Callable[[Any, Any, Sequence[Any], Any, Any], None]


class Rule(NamedTuple):
    """An optimizer: the names of its slots, each of its weight's shape and 0 at the start, and its step."""

    slots: tuple[str, ...]
    update: Update


def rule(optimizer: SGD | Adam | AdamW) -> Rule:
    """The rule of an experiment's optimizer, without weight decay: `decay` and the gradient's L2 term are the step's.

    Momentum is PyTorch's and TensorFlow 1's, `v = m v + g; w -= rate v`, in which a change of the learning rate acts
    at once (Goyal et al., 2017, section 3); Keras' `v = m v - rate g` would let the old rate fade out. Adam is Kingma
    and Ba's with the epsilon of their section 2 ("epsilon hat"), as in TensorFlow.
    """
    if isinstance(optimizer, SGD):
        return _momentum(optimizer) if optimizer.momentum else Rule((), _descend)
    return _adam(optimizer)


def decay(weight: Any, rate: Any, strength: float) -> None:
    """Decoupled weight decay (Loshchilov and Hutter, 2019): the weight shrinks by `rate * strength` of itself."""
    weight.assign_sub(weight * (rate * strength))


def _descend(weight: Any, gradient: Any, slots: Sequence[Any], rate: Any, step: Any) -> None:
    tf.raw_ops.ResourceApplyGradientDescent(var=weight.handle, alpha=rate, delta=gradient)


def _momentum(optimizer: SGD) -> Rule:
    def update(weight: Any, gradient: Any, slots: Sequence[Any], rate: Any, step: Any) -> None:
        (velocity,) = slots
        tf.raw_ops.ResourceApplyMomentum(
            var=weight.handle,
            accum=velocity.handle,
            lr=rate,
            grad=gradient,
            momentum=optimizer.momentum,
            use_nesterov=optimizer.nesterov,
        )

    return Rule(("momentum",), update)


def _adam(optimizer: Adam | AdamW) -> Rule:
    def update(weight: Any, gradient: Any, slots: Sequence[Any], rate: Any, step: Any) -> None:
        mean, square = slots
        # In float64, and rounded once: 0.999 to a high power is the product of many roundings otherwise.
        power = tf.cast(step, tf.float64) + 1.0
        tf.raw_ops.ResourceApplyAdam(
            var=weight.handle,
            m=mean.handle,
            v=square.handle,
            beta1_power=tf.cast(tf.pow(tf.constant(optimizer.beta_1, tf.float64), power), tf.float32),
            beta2_power=tf.cast(tf.pow(tf.constant(optimizer.beta_2, tf.float64), power), tf.float32),
            lr=rate,
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            epsilon=optimizer.epsilon,
            grad=gradient,
        )

    return Rule(("mean", "square"), update)
