"""A ticket of one dataset trained on another: its mask and its first weights, with a new classifier if need be.

A new classifier is no part of the ticket (Morcos et al., 2019): it is not pruned, and its weights are new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

from numpy.typing import NDArray

from lottery.experiment.config import Experiment
from lottery.experiment.sections import Masks, Tickets
from lottery.tickets import masks
from lottery.tickets.masks import Mask, Shapes
from preprocessing.common.errors import InputError

Arrays = Mapping[str, NDArray[Any]]


def check(experiment: Experiment) -> None:
    """Raises InputError if a key contradicts that mask and first weights come from elsewhere."""
    if experiment.transfer is None:
        return
    chosen, tickets = experiment.masks, experiment.tickets
    made = {"iterative": chosen.iterative, "at": chosen.at, "images": chosen.images}
    given = [key for key, value in made.items() if value is not None]
    if chosen.method != Masks().method:
        given.append("method")
    if given or len(chosen.densities) != 1:
        raise InputError(
            f"masks.{given[0] if given else 'densities'}: a transferred ticket brings its mask; give only the density "
            "that `python -m lottery transfer` has written"
        )
    if list(experiment.trellis) not in ([0], ["0ep"]):
        raise InputError(
            "trellis: a transferred ticket brings its first weights, and is trained all the steps; give [0]"
        )
    if tickets.start != Tickets().start:
        raise InputError(
            f"tickets.start: {tickets.start} does not begin with a transferred ticket's weights; leave it out"
        )
    if tickets.optimizer_state != "fresh":
        raise InputError("tickets.optimizer_state: a transferred ticket brings no optimizer's state; leave the key out")
    if experiment.transfer.classifier == "new" and chosen.classifier:
        raise InputError("masks.classifier: transfer.classifier is new, and not pruned; give false")


def check_density(experiment: Experiment, mask: Mask) -> None:
    """Raises InputError if the experiment does not give a transferred mask its density."""
    kept, prunable = masks.kept(mask), masks.prunable_weights(mask)
    if masks.kept_weights(experiment.masks.densities[0], prunable) != kept:
        raise InputError(
            f"masks.densities: the mask of the transferred ticket keeps {kept:,} of {prunable:,} weights; "
            f"give [{kept / prunable!r}]"
        )


def source_hash(mask: Mask, weights: Arrays) -> str:
    """16 hex digits: a hash of a ticket's mask and of the weights that it is laid over."""
    found = hashlib.sha256()
    for arrays in (mask, weights):
        for path, array in sorted(arrays.items()):
            found.update(f"{path} {array.dtype.str} {array.shape}\n".encode())
            found.update(array.tobytes())
    return found.hexdigest()[:16]


def fitting_mask(mask: Mask, kernels: Shapes, new: Collection[str]) -> Mask:
    """The part of a ticket's mask that is for these kernels, which are all that can be pruned here.

    Args:
        mask: of the ticket's own kernels.
        kernels: shapes by path.
        new: paths of variables that are not the ticket's; their masks are left out.

    Raises InputError if the ticket lacks a kernel, or has it in another shape, or has one more.
    """
    rest = {path: kept for path, kept in mask.items() if path not in new}
    for path in {**kernels, **rest}:
        here, there = kernels.get(path), rest[path].shape if path in rest else None
        if here != there:
            raise _misfit(path, there, here)
    return {path: rest[path] for path in kernels}


def fitting_weights(weights: Arrays, fresh: Arrays, new: Collection[str]) -> dict[str, NDArray[Any]]:
    """A model's first state: the ticket's weights and statistics, and the fresh ones of what is `new`, by path.

    Raises InputError if the ticket lacks a variable or has it in another shape.
    """
    found = {}
    for path, array in fresh.items():
        if path not in new and (path not in weights or weights[path].shape != array.shape):
            raise _misfit(path, weights[path].shape if path in weights else None, array.shape)
        found[path] = array if path in new else weights[path]
    return found


def _misfit(path: str, there: tuple[int, ...] | None, here: tuple[int, ...] | None) -> InputError:
    return InputError(
        f"transfer: {path} has shape {there} in the ticket, and {here} here; give the ticket's model and masks.exclude,"
        " images of its size (preprocess.py --size, or data.crop), and transfer.classifier=new for other classes"
    )
