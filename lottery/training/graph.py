"""The compiled functions: a run of any number of batches for any ticket, and an evaluation's batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lottery.experiment.config import Experiment
from lottery.training import loss_scale, optimizers
from lottery.training.layout import Layout
from lottery.training.optimizers import Rule
from lottery.training.replica import Replica, decoupled
from lottery.training.state import GOOD_STEPS, ITERATION, KERNELS, SCALE, slot_path

_SUM = tf.distribute.ReduceOp.SUM


class Graph:
    """The compiled part of a trainer, around variables for a state's vectors.

    `run(vectors, mask, images, labels, rates)` returns each step's loss, and `vectors()` then the new ones.
    `enter(vectors)` puts in the state that `sums(images, labels)` evaluates, which also returns which images are right.
    `total(sums)` adds up over workers, and `union(right)` float32 vectors with a 1 for each image.

    Each vector and each mask is a tuple: a copy for each of this process's devices, which stays there. Images are a
    tuple too: a part for each device.

    Args:
        model: called statelessly.
        experiment: batch and recipe.
        layouts: the layout of each vector of a state.
        rule: the optimizer.
        strategy: OneDevice-, Mirrored- or MultiWorkerMirroredStrategy.
        shape: [height, width, channels] of an image.
        classes: number of classes.
        moments: mean and standard deviation per channel, in units of 0..255.
    """

    def __init__(
        self,
        model: keras.Model,
        experiment: Experiment,
        layouts: Mapping[str, Layout],
        rule: Rule,
        strategy: tf.distribute.Strategy,
        shape: tuple[int, int, int],
        classes: int,
        moments: tuple[Sequence[float], Sequence[float]],
    ) -> None:
        self._training, self._rule, self._strategy = experiment.training, rule, strategy
        self._mixed = experiment.training.precision == "mixed_float16"
        self._replicas, self._local = strategy.num_replicas_in_sync, len(strategy.extended.worker_devices)
        with strategy.scope():
            self._vectors = {
                name: tf.Variable(np.zeros(layout.size, layout.dtype), trainable=False)
                for name, layout in layouts.items()
            }
            self._mask = tf.Variable(np.ones(layouts[KERNELS].size, np.float32), trainable=False)
        self._replica = Replica(
            model,
            experiment,
            layouts,
            self._vectors,
            self._mask,
            shape,
            classes,
            *moments,
            self._replicas,
            self._local,
        )
        self._evaluated = [name for name in layouts if not name.startswith("optimizer/")]
        vectors = {
            name: (tf.TensorSpec([layout.size], layout.dtype),) * self._local for name, layout in layouts.items()
        }
        images, labels = tf.TensorSpec([None, *shape], tf.uint8), tf.TensorSpec([None], tf.int32)
        parts = (tf.TensorSpec([None, None, *shape], tf.uint8),) * self._local
        runs = parts, tf.TensorSpec([None, None], tf.int32)
        self.run = _compiled(self._steps, vectors, vectors[KERNELS], *runs, tf.TensorSpec([None], tf.float32))
        self._enter_evaluated = _compiled(self._enter, {name: vectors[name] for name in self._evaluated})
        self.sums = _compiled(self._sums, images, labels)
        self.total = _compiled(self._total, tf.TensorSpec([4], tf.float64))
        self.union = _compiled(self._total, tf.TensorSpec([None], tf.float32))

    def enter(self, vectors: Mapping[str, Any]) -> None:
        """Puts the weights and statistics of a state into the variables."""
        self._enter_evaluated({name: vectors[name] for name in self._evaluated})

    def vectors(self) -> dict[str, tuple[Any, ...]]:
        """The vectors after a run."""
        return {name: self._values(variable) for name, variable in self._vectors.items()}

    def drawn(self) -> dict[str, tuple[Any, ...]]:
        """The vectors that hold seed generators, as evaluations have left them."""
        return {name: self._values(self._vectors[name]) for name in self._replica.drawing}

    def _enter(self, vectors: Mapping[str, Any]) -> None:
        """Puts vectors into their variables: into each device's, the copy that is there."""
        for name, copies in vectors.items():
            self._put(self._vectors[name], copies)

    def _put(self, variable: Any, copies: Sequence[Any]) -> None:
        for own, value in zip(self._strategy.experimental_local_results(variable), copies, strict=True):
            own.assign(value)

    def _write(self, variable: Any, value: Any) -> None:
        self._strategy.extended.update(variable, _assign, args=(value,))

    def _values(self, variable: Any) -> tuple[Any, ...]:
        """A variable's value, on each device a tensor that later steps do not change.

        The results of a compiled function could all be on the first device.
        """
        values = []
        for own in self._strategy.experimental_local_results(variable):
            with tf.device(own.device):
                values.append(tf.raw_ops.ReadVariableOp(resource=own.handle, dtype=own.dtype))
        return tuple(values)

    def _apply(self, gradients: Mapping[str, Any], others: Mapping[str, Any], rate: Any) -> None:
        """Writes the weights, their slots and the other variables, on every replica."""
        update, iteration = self._strategy.extended.update, self._vectors[ITERATION]
        for name, gradient in gradients.items():
            masked = self._mask if name == KERNELS else None
            strength = self._training.weight_decay if masked is not None and decoupled(self._training) else 0.0

            def step(
                variable: Any, gradient: Any, slots: list[Any], mask: Any, iteration: Any, strength: float = strength
            ) -> None:
                if strength:
                    optimizers.decay(variable, rate, strength)
                self._rule.update(variable, gradient, slots, rate, iteration[0])
                if mask is not None:
                    variable.assign(variable * mask)

            slots = [self._vectors[slot_path(name, slot)] for slot in self._rule.slots]
            update(self._vectors[name], step, args=(gradient, slots, masked, iteration))
        for name, value in others.items():
            self._write(self._vectors[name], value)
        update(iteration, _assign_add, args=([1],))

    def _apply_where_finite(
        self, finite: Any, gradients: Mapping[str, Any], others: Mapping[str, Any], rate: Any
    ) -> None:
        """`_apply`, unless a gradient overflowed float16; and the next loss scale."""
        finite = self._strategy.experimental_local_results(finite)[0]

        def take() -> Any:
            self._apply(gradients, others, rate)
            return tf.no_op()

        tf.cond(finite, take, tf.no_op)
        before, run = tf.convert_to_tensor(self._vectors[SCALE]), tf.convert_to_tensor(self._vectors[GOOD_STEPS])
        scale, good = loss_scale.next_scale(before, run, finite)
        self._write(self._vectors[SCALE], scale)
        self._write(self._vectors[GOOD_STEPS], good)

    def _steps(self, vectors: Mapping[str, Any], mask: Any, images: Any, labels: Any, rates: Any) -> Any:
        self._enter(vectors)
        self._put(self._mask, mask)
        # One trace for runs of every length: the loop is in the graph, outside of strategy.run.
        count = tf.shape(rates)[0]

        def train(step: Any, losses: Any) -> tuple[Any, Any]:
            loss, gradients, others, finite = self._strategy.run(self._replica.step, args=(images, labels, step))
            if self._mixed:
                self._apply_where_finite(finite, gradients, others, rates[step])
            else:
                self._apply(gradients, others, rates[step])
            return step + 1, losses.write(step, self._strategy.experimental_local_results(loss)[0])

        losses = tf.TensorArray(tf.float32, count)
        _, losses = tf.while_loop(lambda step, _: step < count, train, (tf.constant(0), losses))
        return losses.stack()

    def _sums(self, images: Any, labels: Any) -> tuple[Any, Any]:
        each, right, drawn = self._strategy.run(self._replica.sums, args=(images, labels))
        for name, value in drawn.items():
            self._write(self._vectors[name], self._strategy.experimental_local_results(value)[0])
        local = self._strategy.experimental_local_results
        return tf.add_n(local(each)), tf.concat(local(right), axis=0)

    def _total(self, own: Any) -> Any:
        """The sum of every worker's `own`, once at the end: batch by batch, all would wait for the slowest."""
        if self._local == self._replicas:
            return own

        def all_of_them() -> Any:
            context = tf.distribute.get_replica_context()
            first = tf.equal(context.replica_id_in_sync_group % self._local, 0)
            return context.all_reduce(_SUM, tf.where(first, own, tf.zeros_like(own)))

        return self._strategy.experimental_local_results(self._strategy.run(all_of_them))[0]


def _compiled(function: Any, *signature: Any) -> Any:
    # Tracing a large model takes seconds. With signatures, runs and batches of all lengths share one trace; without
    # AutoGraph, which rewrites Python that does not need it, it takes half as long.
    return tf.function(function, input_signature=signature, autograph=False)


def _assign(variable: Any, value: Any) -> Any:
    return variable.assign(value)


def _assign_add(variable: Any, value: Any) -> Any:
    return variable.assign_add(value)
