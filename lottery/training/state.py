"""A training's state as a few flat vectors, which stay on the device; by path it reads as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from lottery.training.layout import Layout
from lottery.training.loss_scale import FIRST_SCALE
from preprocessing.common.errors import InputError

KERNELS, REST = "kernels", "rest"  # the trainable weights: kernels, which weight decay acts on, and all others
ITERATION, SCALE, GOOD_STEPS = "optimizer/iteration", "optimizer/loss_scale", "optimizer/good_steps"
SEED_GENERATOR = "seed_generator_state"  # Keras' name of a SeedGenerator's variable: int64 [2], seed and counter


class State(Mapping[str, NDArray[Any]]):
    """All that a training's future depends on: weights, statistics, seed generators, optimizer slots, loss scale.

    It never changes. As a mapping it has the variables' arrays by path; the first access to a vector copies it from
    the device, whole.

    Args:
        vectors: by name, the same tensor on each device that computes.
        layouts: the layout of each of them.
    """

    def __init__(self, vectors: Mapping[str, Sequence[Any]], layouts: Mapping[str, Layout]) -> None:
        self.vectors, self.layouts = vectors, layouts
        self._copies: dict[str, NDArray[Any]] = {}

    def __getitem__(self, path: str) -> NDArray[Any]:
        name = self._names[path]
        if name not in self._copies:
            self._copies[name] = self.vectors[name][0].numpy()
        return self.layouts[name].array(self._copies[name], path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @cached_property
    def _names(self) -> dict[str, str]:
        return {path: name for name, layout in self.layouts.items() for path in layout.places}


def layouts(model: keras.Model, name: str, slots: Sequence[str], loss_scale: bool) -> dict[str, Layout]:
    """The vectors of a model's state by name: its weights, their optimizer slots, its other variables, and counters.

    Args:
        name: the model's, for errors.
        slots: names of the optimizer's slots.
        loss_scale: whether the training has one.

    Raises:
        InputError: two variables have one name, or a weight is not float32.
    """
    _check(model, name)
    weights = {variable.path: variable for variable in model.trainable_variables}
    kernels = Layout({path: weight.shape for path, weight in weights.items() if is_kernel(weight)}, "float32")
    rest = Layout({path: weight.shape for path, weight in weights.items() if path not in kernels.places}, "float32")
    found = {KERNELS: kernels, REST: rest}
    for slot in slots:
        found |= {slot_path(name, slot): found[name].renamed(slot_path("{}", slot)) for name in (KERNELS, REST)}
    others = {variable.path: variable for variable in model.non_trainable_variables}
    for dtype in dict.fromkeys(variable.dtype for variable in others.values()):
        shapes = {path: variable.shape for path, variable in others.items() if variable.dtype == dtype}
        found[f"others/{dtype}"] = Layout(shapes, dtype)
    found[ITERATION] = Layout({ITERATION: ()}, "int64")
    if loss_scale:
        found |= {SCALE: Layout({SCALE: ()}, "float32"), GOOD_STEPS: Layout({GOOD_STEPS: ()}, "int64")}
    return {name: layout for name, layout in found.items() if layout.places}


def fresh_optimizer(layouts: Mapping[str, Layout]) -> dict[str, NDArray[Any]]:
    """The optimizer's part of a state before its first step, by path: slots of 0, and the first loss scale."""
    fresh = {
        path: np.zeros(place.shape, layout.dtype)
        for layout in layouts.values()
        for path, place in layout.places.items()
        if path.startswith("optimizer/")
    }
    if SCALE in fresh:
        fresh[SCALE] = np.array(FIRST_SCALE, np.float32)
    return fresh


def first_misfit(layouts: Mapping[str, Layout], state: Mapping[str, Any]) -> str | None:
    """The first variable that a state by path lacks or has in another shape or type; None if it fits."""
    for layout in layouts.values():
        for path, place in layout.places.items():
            if path not in state or (tuple(state[path].shape), state[path].dtype) != (place.shape, layout.dtype):
                return f"{path} of shape {place.shape}"
    return None


def _check(model: keras.Model, name: str) -> None:
    paths = [variable.path for variable in model.variables]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise InputError(f"model {name}: two variables are called {twice}; give layers distinct names")
    for weight in model.trainable_variables:
        if weight.dtype != "float32":
            raise InputError(f"model {name}: weight {weight.path} is {weight.dtype}; make it float32")


def is_kernel(variable: Any) -> bool:
    """Whether weight decay applies to this variable."""
    return str(variable.name).endswith("kernel")


def slot_path(weight: str, slot: str) -> str:
    """The path of a weight's optimizer slot."""
    return f"optimizer/{weight}/{slot}"
