"""Training and evaluation of whichever ticket's state is loaded."""

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
from lottery.models.classifier import classifier_kernel
from lottery.run.provenance import Provenance
from lottery.tickets.masks import Mask, without_excluded
from lottery.training import optimizers, scores, xla
from lottery.training.graph import Graph
from lottery.training.scores import Scores
from lottery.training.state import (
    KERNELS,
    State,
    first_misfit,
    fresh_optimizer,
    layouts,
    slot_path,
)
from preprocessing.common.errors import InputError


class Trainer:
    """One model and one optimizer that train many tickets in turn.

    A ticket is its state and its mask: `load` chooses them, `run` trains, `state` returns the new state. So
    the step is traced once for all tickets, and a ticket trained among others sees the same arithmetic as one trained
    alone.

    A state is a few flat vectors (`lottery.training.state`), which go into the compiled function and come out of it
    once per run: switching tickets costs the host next to nothing, however many variables the model has. Inside, they
    are TensorFlow variables of which the model's are slices. Taking a vector in or out shares its memory; the first
    step that changes a vector that someone still holds copies it.

    The step is a function of the state: the model is called statelessly on every replica, gradients and new
    statistics are reduced (`lottery.training.replica`), and only then are the vectors written, the same on every
    replica. So the state can be read from any one replica.

    Args:
        experiment: model, optimizer and recipe.
        shape: [height, width, channels] of a training image after cropping.
        classes: number of classes.
        mean, std: per channel, in units of 0..255; images are normalised inside the step.
        strategy: OneDevice-, Mirrored- or MultiWorkerMirroredStrategy.

    Raises:
        InputError: the batch does not divide among the replicas, the model cannot be built, or XLA cannot compile it
            for this many devices.
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
        if self.is_distributed:  # how many executors there are must not change the result
            build.synchronize_batch_norm(self._model)
        xla.check(experiment, self._model, self._replicas)
        kernels = build.prunable_kernels(self._model, experiment.masks.classifier, shape)
        if not kernels:
            raise InputError(
                f"model {experiment.model.name}: has no kernels to prune; docs/models.md says which can be"
            )
        left = without_excluded([kernel.path for kernel in kernels], experiment.masks.exclude)
        self._kernels = {kernel.path: kernel for kernel in kernels if kernel.path in left}
        scaled = self._training.precision == "mixed_float16"
        self._layouts = layouts(self._model, experiment.model.name, self._rule.slots, scaled)
        self._graph = Graph(self._model, experiment, self._layouts, self._rule, strategy, shape, classes, (mean, std))
        self._state: State | None = None
        self._loaded_mask: Mask | None = None
        self._masks: dict[int, tuple[Mask | None, Any]] = {}

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

    def classifier(self) -> list[str]:
        """Paths of the variables of the layer whose kernel feeds the output. Raises InputError if there is none."""
        kernels = build.prunable_kernels(self._model, classifier=True)
        folder = str(classifier_kernel(self._model, self._shape, kernels).path).rpartition("/")[0]
        return [each.path for each in self._model.variables if each.path.rpartition("/")[0] == folder]

    @property
    def variables(self) -> list[str]:
        """Paths of all of the model's variables: weights, statistics, seed generators."""
        return [variable.path for variable in self._model.variables]

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
        """Paths of the optimizer's slots of a kernel, which must be 0 wherever the mask is 0."""
        return [slot_path(kernel, slot) for slot in self._rule.slots]

    def first_state(self, seed: int) -> dict[str, NDArray[Any]]:
        """Freshly initialised weights, a function of `seed` alone, with a fresh optimizer."""
        pristine = seed == self._experiment.seed  # the model's own variables never change
        model = self._model if pristine else self._build(seed, again=True)
        weights = {variable.path: variable.numpy() for variable in model.variables}
        return {**self.fresh_optimizer(), **weights}

    def fresh_optimizer(self) -> dict[str, NDArray[Any]]:
        """The optimizer's part of a state before its first step: slots of 0, and the first loss scale."""
        return fresh_optimizer(self._layouts)

    def check(self, state: Mapping[str, Any], origin: str = "the saved state", remedy: str = "") -> None:
        """Raises InputError if a state does not fit this model: a user may have changed the model since.

        `origin` names the file; `remedy` says what to do if the model has not changed.
        """
        misfit = first_misfit(self._layouts, state)
        if misfit is not None:
            raise InputError(
                f"model {self._experiment.model.name}: has {misfit}, {origin} has not; a model that was changed is "
                "another experiment: give it another name" + (f"; if it was not changed, {remedy}" if remedy else "")
            )

    def load(self, state: Mapping[str, Any], mask: Mask | None) -> None:
        """Chooses the ticket that `run` trains: its state, as arrays by path or from `state`, and its mask.

        None masks nothing. A state that is not on the device yet is copied there; a mask is kept there.
        """
        self._state, self._loaded_mask = self._on_device(state), mask
        self._mask_on_device(mask)

    def state(self) -> State:
        """The state that was loaded (at first, the experiment's), after all runs since."""
        if self._state is None:
            self._state = self._on_device(self.first_state(self._experiment.seed))
        return self._state

    def to_device(self, images: Any) -> Any:
        """A run's images on the device that computes, copied once for all tickets of a bundle.

        If several devices compute, images stay where they are: `split` gives each its part.
        """
        if self._local > 1:
            return images
        (images,) = self.split(images)
        return images

    def split(self, images: Any) -> tuple[Any, ...]:
        """A run's images as a tuple of each device's part, copied there once for all tickets of a bundle."""
        if isinstance(images, tuple):
            return images
        share, parts = images.shape[1] // self._local, []
        for place, device in enumerate(self._strategy.extended.worker_devices):
            part = images
            if self._local > 1:
                # Cut where they are, so that no device gets another's part.
                with tf.device(images.device if tf.is_tensor(images) else None):
                    part = images[:, place * share : (place + 1) * share]
            with tf.device(device):
                parts.append(tf.identity(part))
        return tuple(parts)

    def run(self, images: Any, labels: Any, rates: NDArray[np.float32]) -> NDArray[np.float32]:
        """Trains on a run of batches and returns each step's mean loss, float32 [steps].

        Args:
            images: uint8 [steps, batch, height, width, channels], or from `split`; of several workers, each gives its
                own share.
            labels: int32 [steps, batch].
            rates: the learning rate of each step, float32 [steps].

        Raises InputError if XLA cannot compile the model.
        """
        state = self.state()
        with custom.explained(self._experiment.model.name), xla.explained(self._experiment):
            mask = self._mask_on_device(self._loaded_mask)
            losses: NDArray[np.float32] = self._graph.run(
                state.vectors, mask, self.split(images), labels, rates
            ).numpy()
        self._state = State(self._graph.vectors(), self._layouts)
        return losses

    def load_model(self, state: Mapping[str, Any]) -> None:
        """Chooses the state that `score_sums` evaluates. An evaluation needs no mask and no optimizer."""
        self._state = self._on_device(state)
        self._graph.enter(self._state.vectors)

    def score_sums(self, images: Any, labels: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """`scores.sums` of the loaded model over uint8 [n, height, width, channels] and int32 [n].

        Returns the sums, float64 [4], and which images it gets right, bool [n].
        """
        sums, right = self._graph.sums(images, labels)
        return sums.numpy(), right.numpy()

    def evaluated(self) -> State:
        """The state given to `load_model`, with its seed generators as `score_sums` left them.

        A user's model may draw noise in an evaluation.
        """
        return State({**self.state().vectors, **self._graph.drawn()}, self._layouts)

    def scores(self, sums: NDArray[np.float64]) -> Scores:
        """The scores from the `score_sums` of all batches, added up; over all workers, each of which has to call it."""
        return scores.means(self._graph.total(sums).numpy())

    def union(self, right: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which images are right by any worker's account, bool [images]; each worker has to call it with its own."""
        if not self.is_distributed:
            return right
        found: NDArray[np.bool_] = self._graph.union(right.astype(np.float32)).numpy() > 0
        return found

    def _build(self, seed: int, scope: AbstractContextManager[Any] | None = None, again: bool = False) -> keras.Model:
        config, precision = self._experiment.model, self._training.precision
        model = build.build(config, self._shape, self._classes, seed, precision, scope, again)
        if self._training.synchronized_batch_norm:
            build.synchronize_batch_norm(model)
        return model

    def _on_device(self, state: Mapping[str, Any]) -> State:
        if isinstance(state, State) and state.layouts is self._layouts:
            return state
        vectors = {name: self._on_each_device(layout.pack(state)) for name, layout in self._layouts.items()}
        return State(vectors, self._layouts)

    def _on_each_device(self, vector: NDArray[Any]) -> tuple[Any, ...]:
        copies = []
        for device in self._strategy.extended.worker_devices:
            with tf.device(device):
                copies.append(tf.constant(vector))
        return tuple(copies)

    def _mask_on_device(self, mask: Mask | None) -> Any:
        """The mask as a vector of 0 and 1 over all kernels, kept on each device for other tickets of this mask."""
        if id(mask) not in self._masks:
            layout = self._layouts[KERNELS]
            shapes = {path: place.shape for path, place in layout.places.items()}
            kept = {
                path: np.ones(shape) if mask is None else mask.get(path, np.ones(shape))
                for path, shape in shapes.items()
            }
            copies = self._on_each_device(layout.pack(kept))
            self._masks[id(mask)] = mask, copies  # the mask itself, so that no other one gets its id
        return self._masks[id(mask)][1]
