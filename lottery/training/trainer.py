"""The compiled training step: any number of batches in one call, for whichever ticket's state is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from lottery.experiment.config import Experiment
from lottery.models import build, custom, fingerprint
from lottery.run.provenance import Provenance
from lottery.tickets.masks import Mask
from lottery.training import loss_scale, optimizers, scores
from lottery.training.replica import SEED_GENERATOR, Replica, decoupled, is_kernel
from lottery.training.scores import Scores
from preprocessing.common.errors import InputError

# The values of all of a trainer's variables by path: weights, statistics, seed generators, optimizer slots, loss scale.
State = Mapping[str, Any]

_SUM = tf.distribute.ReduceOp.SUM


class Trainer:
    """One model and one optimizer that train many tickets in turn.

    A ticket is its state and its mask: `load` puts them into the variables, `run` trains, `state` takes the state
    out. So the step is traced once for all tickets, and a ticket trained among others sees the same arithmetic as
    one trained alone.

    The step is a function of the state: the model is called statelessly on every replica, gradients and new
    statistics are reduced (`lottery.training.replica`), and only then are the variables written, the same on every
    replica. So the state can be read from any one replica.

    Args:
        experiment: model, optimizer and recipe.
        shape: [height, width, channels] of a training image after cropping.
        classes: number of classes.
        mean, std: per channel, in units of 0..255; images are normalised inside the step.
        strategy: OneDevice-, Mirrored- or MultiWorkerMirroredStrategy.

    Raises:
        InputError: the batch does not divide among the replicas, or the model cannot be built.
    """

    def __init__(
        self,
        experiment: Experiment,
        shape: tuple[int, int, int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        strategy: tf.distribute.Strategy,
    ) -> None:
        self._experiment, self._training = experiment, experiment.training
        self._shape, self._classes = shape, classes
        self._strategy = strategy
        self._replicas, self._local = strategy.num_replicas_in_sync, len(strategy.extended.worker_devices)
        if experiment.data.batch % self._replicas:
            raise InputError(
                f"data.batch: {experiment.data.batch} images do not divide among the {self._replicas} devices of a "
                "task; choose a multiple"
            )
        self._rule = optimizers.rule(self._training.optimizer)
        self._model = self._build(experiment.seed, strategy.scope())
        self._provenance = fingerprint.provenance(self._model)
        if self.is_distributed:
            self._synchronize_batch_norm()
        kernels = build.prunable_kernels(self._model, experiment.masks.classifier, shape)
        if not kernels:
            raise InputError(
                f"model {experiment.model.name}: has no kernels to prune; docs/models.md says which can be"
            )
        with strategy.scope():
            self._masks = {kernel.path: tf.Variable(tf.ones(kernel.shape), trainable=False) for kernel in kernels}
            self._slots = {
                weight.path: [tf.Variable(tf.zeros(weight.shape), trainable=False) for _ in self._rule.slots]
                for weight in self._model.trainable_variables
            }
            self._iteration = tf.Variable(0, trainable=False, dtype=tf.int64)
            self._scale = tf.Variable(loss_scale.FIRST_SCALE, trainable=False)
            self._good_steps = tf.Variable(0, trainable=False, dtype=tf.int64)
        self._kernels = {kernel.path: kernel for kernel in kernels}
        self._variables = self._name_variables()
        self._replica = Replica(
            self._model, experiment, self._masks, self._scale, shape, classes, mean, std, self._replicas, self._local
        )
        self._loaded = False
        self._loaded_mask: Mask | None = None
        # Tracing a large model takes seconds. With signatures, runs and batches of all lengths share one trace; without
        # AutoGraph, which rewrites Python that does not need it, it takes half as long.
        self._compiled_steps = tf.function(
            self._steps,
            input_signature=(
                tf.TensorSpec([None, None, *shape], tf.uint8),
                tf.TensorSpec([None, None], tf.int32),
                tf.TensorSpec([None], tf.float32),
            ),
            autograph=False,
        )
        self._compiled_sums = tf.function(
            self._sums,
            input_signature=(tf.TensorSpec([None, *shape], tf.uint8), tf.TensorSpec([None], tf.int32)),
            autograph=False,
        )
        self._compiled_total = tf.function(
            self._total, input_signature=(tf.TensorSpec([4], tf.float64),), autograph=False
        )

    @property
    def kernels(self) -> list[str]:
        """Paths of the prunable kernels, in the model's order."""
        return list(self._kernels)

    @property
    def kernel_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the prunable kernels by path."""
        return {path: tuple(kernel.shape) for path, kernel in self._kernels.items()}

    @property
    def weights(self) -> list[str]:
        """Paths of all trainable weights: kernels, prunable or not, biases and the like."""
        return [weight.path for weight in self._model.trainable_variables]

    @property
    def is_distributed(self) -> bool:
        """Whether other processes train with this one."""
        return bool(self._local < self._replicas)

    @property
    def parameters(self) -> int:
        """How many weights the model has, prunable or not."""
        return int(self._model.count_params())

    @property
    def prunable(self) -> int:
        """How many weights can be pruned."""
        return sum(math.prod(kernel.shape) for kernel in self._kernels.values())

    def provenance(self) -> Provenance:
        """The model's fingerprint and the versions of the software."""
        return self._provenance

    def slots(self, kernel: str) -> list[str]:
        """Paths of the optimizer's slots of a kernel, which must be 0 wherever its mask is."""
        return [_slot_path(kernel, slot) for slot in self._rule.slots]

    def first_state(self, seed: int) -> dict[str, NDArray[Any]]:
        """Freshly initialised weights, a function of `seed` alone, with a fresh optimizer."""
        pristine = not self._loaded and seed == self._experiment.seed
        model = self._model if pristine else self._build(seed, again=True)
        weights = {variable.path: variable.numpy() for variable in model.variables}
        return {**self.fresh_optimizer(), **weights}

    def fresh_optimizer(self) -> dict[str, NDArray[Any]]:
        """The optimizer's part of a state before its first step: slots of 0, and the first loss scale."""
        fresh = {
            path: np.zeros(variable.shape, variable.dtype.as_numpy_dtype)
            for path, variable in self._variables.items()
            if path.startswith("optimizer/")
        }
        if "optimizer/loss_scale" in fresh:
            fresh["optimizer/loss_scale"] = np.array(loss_scale.FIRST_SCALE, np.float32)
        return fresh

    def check(self, state: State, origin: str = "the saved state", remedy: str = "") -> None:
        """Raises InputError if a state does not fit this model: a user may have changed the model since.

        `origin` names the file; `remedy` is what else to do.
        """
        for path, variable in self._variables.items():
            wanted = tuple(variable.shape), variable.dtype.as_numpy_dtype
            if path not in state or (tuple(state[path].shape), state[path].dtype) != wanted:
                raise InputError(
                    f"model {self._experiment.model.name}: has {path} of shape {tuple(variable.shape)}, {origin} has "
                    "not; a model that was changed is another experiment: give it another name"
                    + (f"; where it was not changed, {remedy}" if remedy else "")
                )

    def load(self, state: State, mask: Mask | None) -> None:
        """Puts a ticket's state and mask (None: nothing is masked) into the variables."""
        self._loaded = True
        for path, variable in self._variables.items():
            variable.assign(state[path])
        if mask is not self._loaded_mask or self._loaded_mask is None:
            for path, variable in self._masks.items():
                variable.assign(tf.ones(variable.shape) if mask is None else mask[path].astype(np.float32))
            self._loaded_mask = mask

    def state(self) -> dict[str, tf.Tensor]:
        """The values of all variables by path, as tensors that later steps do not change."""
        return {path: tf.identity(variable) for path, variable in self._variables.items()}

    def to_device(self, images: Any) -> Any:
        """A run's images on the device that computes, copied once for all tickets of a bundle.

        Several devices each take their part from main memory.
        """
        devices = self._strategy.extended.worker_devices
        if len(devices) > 1:
            return images
        with tf.device(devices[0]):
            return tf.identity(images)

    def run(self, images: Any, labels: Any, rates: NDArray[np.float32]) -> NDArray[np.float32]:
        """Trains on a run of batches and returns each step's mean loss, float32 [steps].

        Args:
            images: uint8 [steps, batch, height, width, channels]; of several workers, each gives its own share.
            labels: int32 [steps, batch].
            rates: the learning rate of each step, float32 [steps].
        """
        with custom.explained(self._experiment.model.name):
            losses: NDArray[np.float32] = self._compiled_steps(images, labels, rates).numpy()
        return losses

    def load_model(self, state: State) -> None:
        """Puts a state's weights and statistics into the model. An evaluation needs no mask and no optimizer."""
        self._loaded = True
        for variable in self._model.variables:
            variable.value.assign(state[variable.path])

    def score_sums(self, images: Any, labels: Any) -> NDArray[np.float64]:
        """`scores.sums` of the loaded model over uint8 [n, height, width, channels] and int32 [n]: float64 [4]."""
        sums: NDArray[np.float64] = self._compiled_sums(images, labels).numpy()
        return sums

    def scores(self, sums: NDArray[np.float64]) -> Scores:
        """The scores from the `score_sums` of all batches, added up; over all workers, each of which has to call it."""
        return scores.means(self._compiled_total(sums).numpy())

    def seed_generators(self) -> dict[str, tf.Tensor]:
        """The part of the loaded state that an evaluation may change: a user's model may draw noise in it."""
        return {
            variable.path: tf.identity(variable.value)
            for variable in self._model.non_trainable_variables
            if variable.name == SEED_GENERATOR
        }

    def _build(self, seed: int, scope: AbstractContextManager[Any] | None = None, again: bool = False) -> keras.Model:
        config, precision = self._experiment.model, self._training.precision
        model = build.build(config, self._shape, self._classes, seed, precision, scope, again)
        for layer in build.layers(model):
            if isinstance(layer, keras.layers.BatchNormalization) and self._training.synchronized_batch_norm:
                layer.synchronized = True
        return model

    def _synchronize_batch_norm(self) -> None:
        """Has statistics taken over all executors' images: how many executors there are must not change the result."""
        for layer in build.layers(self._model):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True

    def _name_variables(self) -> dict[str, Any]:
        """Every variable that a training's future depends on, by path."""
        named = [(variable.path, variable.value) for variable in self._model.variables]
        named += [
            (_slot_path(path, name), slot)
            for path, slots in self._slots.items()
            for name, slot in zip(self._rule.slots, slots, strict=True)
        ]
        named.append(("optimizer/iteration", self._iteration))
        if self._training.precision == "mixed_float16":
            named += [("optimizer/loss_scale", self._scale), ("optimizer/good_steps", self._good_steps)]
        variables = dict(named)
        if len(variables) != len(named):
            paths = [path for path, _ in named]
            twice = next(path for path in paths if paths.count(path) > 1)
            raise InputError(
                f"model {self._experiment.model.name}: two variables are called {twice}; give layers distinct names"
            )
        return variables

    def _apply(self, gradients: list[Any], others: list[Any], rate: Any) -> None:
        """Writes the weights, their slots and the other variables, on every replica."""
        update = self._strategy.extended.update
        for weight, gradient in zip(self._model.trainable_variables, gradients, strict=True):
            strength = self._training.weight_decay if is_kernel(weight) and decoupled(self._training) else 0.0

            def step(
                variable: Any, gradient: Any, slots: list[Any], mask: Any, iteration: Any, strength: float = strength
            ) -> None:
                if strength:
                    optimizers.decay(variable, rate, strength)
                self._rule.update(variable, gradient, slots, rate, iteration)
                if mask is not None:
                    variable.assign(variable * mask)

            mask = self._masks.get(weight.path)
            update(weight.value, step, args=(gradient, self._slots[weight.path], mask, self._iteration))
        for variable, value in zip(self._model.non_trainable_variables, others, strict=True):
            update(variable.value, _assign, args=(value,))
        update(self._iteration, _assign_add, args=(1,))

    def _apply_where_finite(self, finite: Any, gradients: list[Any], others: list[Any], rate: Any) -> None:
        """`_apply`, unless a gradient overflowed float16; and the next loss scale."""
        finite = self._strategy.experimental_local_results(finite)[0]

        def take() -> Any:
            self._apply(gradients, others, rate)
            return tf.no_op()

        tf.cond(finite, take, tf.no_op)
        before, run = tf.convert_to_tensor(self._scale), tf.convert_to_tensor(self._good_steps)
        scale, good = loss_scale.next_scale(before, run, finite)
        self._strategy.extended.update(self._scale, _assign, args=(scale,))
        self._strategy.extended.update(self._good_steps, _assign, args=(good,))

    def _steps(self, images: Any, labels: Any, rates: Any) -> Any:
        # One trace for runs of every length: the loop is in the graph, outside of strategy.run.
        count = tf.shape(rates)[0]

        def train(step: Any, losses: Any) -> tuple[Any, Any]:
            loss, gradients, others, finite = self._strategy.run(self._replica.step, args=(images[step], labels[step]))
            if self._training.precision == "mixed_float16":
                self._apply_where_finite(finite, gradients, others, rates[step])
            else:
                self._apply(gradients, others, rates[step])
            return step + 1, losses.write(step, self._strategy.experimental_local_results(loss)[0])

        losses = tf.TensorArray(tf.float32, count)
        _, losses = tf.while_loop(lambda step, _: step < count, train, (tf.constant(0), losses))
        return losses.stack()

    def _sums(self, images: Any, labels: Any) -> Any:
        each = self._strategy.run(self._replica.sums, args=(images, labels))
        return tf.add_n(self._strategy.experimental_local_results(each))

    def _total(self, own: Any) -> Any:
        """The sum of every worker's `own`, once at the end: batch by batch, all would wait for the slowest."""
        if not self.is_distributed:
            return own

        def all_of_them() -> Any:
            context = tf.distribute.get_replica_context()
            first = tf.equal(context.replica_id_in_sync_group % self._local, 0)
            return context.all_reduce(_SUM, tf.where(first, own, tf.zeros_like(own)))

        return self._strategy.experimental_local_results(self._strategy.run(all_of_them))[0]


def _slot_path(weight: str, slot: str) -> str:
    return f"optimizer/{weight}/{slot}"


def _assign(variable: Any, value: Any) -> Any:
    return variable.assign(value)


def _assign_add(variable: Any, value: Any) -> Any:
    return variable.assign_add(value)
