"""The dense run: trains the whole network, and keeps its states along the trellis. Then the masks are made."""

from __future__ import annotations

from functools import partial

import msgspec

from lottery.run.run_directory import DenseResult
from lottery.worker import devices
from lottery.worker.bundle import train_bundle
from lottery.worker.mask_making import check_method, make_masks
from lottery.worker.member import Member
from lottery.worker.narrow_model import check_controls
from lottery.worker.session import Session
from lottery.worker.transfer import check_ticket


def train_dense(session: Session, masks: bool = True) -> None:
    """Trains the rest of the dense run, and makes the masks if they are missing and asked for.

    Processes that train together make no masks: a single one does that.
    """
    trained = session.run.dense_result() is None
    if trained:
        check_method(session.experiment)  # before days are spent on the dense run
        check_controls(session.experiment)
        check_ticket(session)
        _train(session)
    dense = session.run.dense_result()
    if dense is None or dense.status != "done" or not masks or session.position.workers > 1:
        return
    if not trained:
        if session.run.has_masks(session.experiment.masks.of_dense_run):
            return
        session.software_changes()  # the dense run may be another's: its model has to be this one
    make_masks(session)


def _train(session: Session) -> None:
    """Trains from the first step, or from the last checkpoint."""
    dense = Member()
    changes = _start_or_resume(session, dense)
    session.check(dense)
    trellis = frozenset(session.timeline.trellis)
    train_bundle(session, [dense], session.experiment.seed, trellis, partial(_keep_trellis_state, session))
    if dense.training:
        dense.end("done")
    _write_result(session, dense, changes)


def _start_or_resume(session: Session, dense: Member) -> str:
    """Gives the member its state. Returns what has changed in the software since it began."""
    if session.log.resume(dense):
        changes = session.software_changes()
        _keep_trellis_state(session, dense)  # it may have been saved because this could not be written
        return changes
    if session.experiment.transfer is None:
        session.run.discard_masks()  # those of an earlier dense run
    hardware = devices.hardware(session.placement.cores)
    session.run.write_provenance(msgspec.structs.replace(session.trainer.provenance(), hardware=hardware))
    dense.state = session.trainer.first_state(session.experiment.seed)
    _keep_trellis_state(session, dense)
    return ""


def _keep_trellis_state(session: Session, dense: Member) -> None:
    """Writes the state at a point of the trellis, and at the end. An existing file is replaced."""
    if dense.step in session.timeline.trellis:
        session.run.write_trellis_state(dense.checkpoint())
    if dense.step == session.timeline.total:
        session.log.save(dense)


def _write_result(session: Session, dense: Member, changes: str) -> None:
    scores = session.log.final_scores(dense)
    session.run.write_dense_result(
        DenseResult(
            status=dense.status,
            note="; ".join(filter(None, [dense.reason, changes])),
            top1=scores.get("top1"),
            top5=scores.get("top5"),
            loss=scores.get("loss"),
            evaluated=session.evaluated_images,
            steps=dense.step,
            seconds=round(dense.seconds, 3),
            parameters=session.trainer.parameters,
            prunable=session.trainer.prunable,
            executors=session.position.workers,
            select_top1=scores.get("select_top1"),
            select_top5=scores.get("select_top5"),
            select_loss=scores.get("select_loss"),
            select_images=session.selection_images,
        )
    )
