"""The masks of an experiment, made from a finished dense run."""

from __future__ import annotations

from lottery.tickets import masks
from lottery.worker.session import Session


def make_masks(session: Session) -> None:
    """Writes the mask of each density: the largest of the dense run's final weights.

    Raises InputError if the final state is damaged, missing or of another model.
    """
    final = session.run.final_dense_state()
    session.trainer.check(final.variables, *session.run.final_dense_file())
    kernels = {path: final.variables[path] for path in session.trainer.kernels}
    for level, mask in enumerate(masks.global_magnitude_masks(kernels, session.experiment.masks.densities)):
        session.run.write_mask(level, mask)
