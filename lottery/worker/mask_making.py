"""Makes the masks of a finished dense run, by the experiment's method."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lottery.experiment.config import Experiment
from lottery.experiment.user_code import locate
from lottery.input.augment import image_shape
from lottery.input.scored_images import scored_images
from lottery.models import custom
from lottery.tickets import mask_methods, masks
from lottery.tickets.mask_methods import Method
from lottery.tickets.masks import Kernels, Mask, UnrankedError
from lottery.tickets.synflow import synflow_mask
from lottery.training.mask_scores import MaskScorer
from lottery.worker.session import Session
from lottery.worker.transfer import bring
from preprocessing.common.errors import InputError

logger = logging.getLogger(__name__)


def make_masks(session: Session) -> None:
    """Writes the mask of each density, or brings the one of another run directory's ticket.

    It needs only the dense run's states in the run directory, or that ticket. The same states give the same masks,
    whatever was written before.

    Raises InputError if the model has changed since the dense run, or the method gives scores that cannot be ranked.
    """
    if session.experiment.transfer is not None:
        bring(session)
        return
    method = mask_methods.find(session.experiment.masks.method)
    try:
        found = _masks(session, method)
    except UnrankedError as error:
        raise InputError(
            f"masks.method: {session.experiment.masks.method}: {error}; choose another method, or another masks.at"
        ) from None
    for level, mask in enumerate(found):
        session.run.write_mask(level, mask)


def _masks(session: Session, method: Method) -> list[Mask]:
    experiment, shapes = session.experiment, session.trainer.kernel_shapes
    densities = experiment.masks.levels[: experiment.masks.of_dense_run]
    if method.scores == "random":
        return mask_methods.masks_of(mask_methods.random_scores(shapes, experiment.seed), densities, method.budget)
    state = _scored_state(session)
    if method.scores == "synflow":
        flow = _scorer(session, state).synaptic_flow()
        _warn_of_zeros(flow({path: np.ones(shape, bool) for path, shape in shapes.items()}), "synflow")
        return [synflow_mask(flow, shapes, density) for density in densities]
    scores = _scores(session, method, state)
    _warn_of_zeros(scores, experiment.masks.method)
    return mask_methods.masks_of(scores, densities, method.budget)


def _scored_state(session: Session) -> Mapping[str, Any]:
    step = mask_methods.scored_step(session.experiment, session.timeline)
    if step < session.timeline.total:
        state, file = session.run.trellis_state(step).variables, session.run.trellis_file(step)
    else:
        state, file = session.run.final_dense_state().variables, session.run.final_dense_file()
    session.trainer.check(state, *file)
    return state


def _scorer(session: Session, state: Mapping[str, Any]) -> MaskScorer:
    dataset = session.dataset
    return MaskScorer(
        session.experiment,
        image_shape(session.experiment.data, dataset.size),
        len(dataset.class_names),
        (dataset.mean, dataset.std),
        state,
        session.trainer.kernels,
        session.show_progress,
    )


def _scores(session: Session, method: Method, state: Mapping[str, Any]) -> Kernels:
    experiment = session.experiment
    kernels = {path: np.asarray(state[path]) for path in session.trainer.kernels}
    if method.scores == "magnitude":
        return masks.magnitudes(kernels)
    scorer, count = _scorer(session, state), mask_methods.scored_images(experiment)

    def batches() -> Any:
        return scored_images(session.dataset, experiment.data, experiment.seed, experiment.input, count)

    if method.scores == "snip":
        return scorer.snip(batches, count)
    if method.scores == "grasp":
        return scorer.grasp(batches, count)
    return _own_scores(experiment.masks.method, kernels, scorer.gradients(batches, count))


def check_method(experiment: Experiment) -> None:
    """Raises InputError if the method is a function of the user's that cannot be imported."""
    if mask_methods.find(experiment.masks.method).scores == "own":
        _own_function(experiment.masks.method)


def _own_function(name: str) -> Callable[[Kernels, Kernels], Mapping[str, Any]]:
    module, function = locate("masks.method", name)
    try:
        found: Callable[[Kernels, Kernels], Mapping[str, Any]] = getattr(importlib.import_module(module), function)
    except Exception as error:  # a user's code may raise anything
        raise InputError(f"masks.method: {name}: {custom.explain(error, 'correct the function')}") from None
    return found


def _own_scores(name: str, kernels: Kernels, gradients: Kernels) -> Kernels:
    """What a user's `module:function` of (weights, gradients), both arrays by kernel path, gives as scores.

    Raises InputError if it cannot be called, or does not give a number for each weight.
    """
    function = _own_function(name)
    try:
        scores = function(dict(kernels), dict(gradients))
        found = {path: np.asarray(scores[path], dtype=np.float64) for path in kernels}
    except Exception as error:
        raise InputError(f"masks.method: {name}: {custom.explain(error, 'correct the function')}") from None
    for path, kernel in kernels.items():
        if found[path].shape != kernel.shape:
            raise InputError(
                f"masks.method: {name}: gives {path} scores of shape {list(found[path].shape)}; "
                f"give one for each weight, {list(kernel.shape)}"
            )
    return found


def _warn_of_zeros(scores: Kernels, name: str) -> None:
    """Raises UnrankedError if all scores are 0; warns of kernels that have no others."""
    empty = [path for path, score in scores.items() if not np.any(score)]
    if len(empty) == len(scores):
        raise UnrankedError("all scores are 0")
    if empty:
        logger.warning("masks.method: %s: all scores of %s are 0: they are pruned first", name, ", ".join(empty))
