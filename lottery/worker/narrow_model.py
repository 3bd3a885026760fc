"""The `narrow` control's network: the experiment's model, cut in width to a mask's number of parameters."""

from __future__ import annotations

from lottery.experiment.config import Experiment
from lottery.input.augment import image_shape
from lottery.models import build, width
from lottery.tickets.masks import kept_weights
from lottery.tickets.tickets import Ticket, changed
from lottery.worker.session import Session


def check_controls(experiment: Experiment) -> None:
    """Raises InputError if a control needs a narrower model, and the experiment's has no width."""
    if any(changed(Ticket(0, 0, name)).is_narrow for name in experiment.tickets.controls):
        width.width(experiment.model)


def narrow_session(session: Session, ticket: Ticket) -> tuple[Session, str]:
    """The session with the narrow network that a ticket's level is compared with, and a note on the network.

    It has as many parameters as the level's mask leaves of the whole model, kept weights and all that is not prunable,
    or as near as a width comes.
    """
    experiment, trainer = session.experiment, session.trainer
    kept = kept_weights(experiment.masks.densities[ticket.level], trainer.prunable)
    shape, classes = image_shape(experiment.data, session.dataset.size), len(session.dataset.class_names)

    def parameters(width_tried: int) -> int:
        model = width.narrowed(experiment.model, width_tried)
        return int(build.build(model, shape, classes, experiment.seed, again=True).count_params())

    widest = width.width(experiment.model)
    found = width.nearest_width(parameters, widest, trainer.parameters - trainer.prunable + kept)
    narrow = session.with_model(width.narrowed(experiment.model, found))
    return narrow, f"narrow: width {found} of {widest}, {narrow.trainer.parameters:,} parameters"
