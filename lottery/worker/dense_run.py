"""The dense run: trains the whole network, keeps its states along the trellis, and makes the masks."""

from __future__ import annotations

from functools import partial

import numpy as np

from lottery.run.run_directory import DenseResult
from lottery.tickets import masks
from lottery.worker.bundle import train_bundle
from lottery.worker.member import Member
from lottery.worker.session import Session


def train_dense(session: Session) -> None:
    """Trains from the first step, or from the last checkpoint, and makes masks of the final weights."""
    dense = Member()
    changes = _start_or_resume(session, dense)
    session.check(dense)
    trellis = frozenset(session.timeline.trellis)
    train_bundle(session, [dense], session.experiment.seed, trellis, partial(_keep_trellis_state, session))
    if dense.training:
        _make_masks(session, dense)
        dense.end("done")
    _write_result(session, dense, changes)


def _start_or_resume(session: Session, dense: Member) -> str:
    """Gives the member its state. Returns what has changed in the software since it began."""
    if session.log.resume(dense):
        changes = session.software_changes()
        _keep_trellis_state(session, dense)  # it may have been saved because this could not be written
        return changes
    session.run.write_provenance(session.trainer.provenance())
    dense.state = session.trainer.first_state(session.experiment.seed)
    _keep_trellis_state(session, dense)
    return ""


def _keep_trellis_state(session: Session, dense: Member) -> None:
    """Writes the state at a point of the trellis, and at the end. What is there already is written again."""
    if dense.step in session.timeline.trellis:
        session.run.write_trellis_state(dense.checkpoint())
    if dense.step == session.timeline.total:
        session.log.save(dense)


def _make_masks(session: Session, dense: Member) -> None:
    """Writes the mask of each density: the largest of the final weights."""
    kernels = {path: np.asarray(dense.state[path]) for path in session.trainer.kernels}
    for level, mask in enumerate(masks.global_magnitude_masks(kernels, session.experiment.masks.densities)):
        session.run.write_mask(level, mask)


def _write_result(session: Session, dense: Member, changes: str) -> None:
    scores = session.log.final_scores(dense)
    session.run.write_dense_result(
        DenseResult(
            status=dense.status,
            note="; ".join(filter(None, [dense.reason, changes])),
            top1=scores.top1 if scores else None,
            top5=scores.top5 if scores else None,
            loss=scores.loss if scores else None,
            evaluated=session.evaluated_images,
            steps=dense.step,
            seconds=round(dense.seconds, 3),
            parameters=session.trainer.parameters,
            prunable=session.trainer.prunable,
            executors=session.position.workers,
        )
    )
