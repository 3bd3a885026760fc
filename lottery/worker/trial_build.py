"""Building a model without training it: what a plan asks a child to do."""

from __future__ import annotations

from lottery.protocol import ModelFacts, Question
from lottery.run.run_directory import RunDirectory
from lottery.tickets import masks
from lottery.training.trainer import Trainer
from lottery.worker import devices
from lottery.worker.mask_making import check_method
from lottery.worker.narrow_model import check_controls
from lottery.worker.position import WorkerPosition
from lottery.worker.transfer import check_transfer
from preprocessing.common.storage import open_store


def build(question: Question) -> ModelFacts:
    """Builds the model as training does at its start.

    Raises InputError if that fails, if the model gives no logits, if a mask keeps no weight, if a function of the
    user's that scores weights cannot be imported, if a control needs a width that the model lacks, or if a transferred
    ticket does not fit.
    """
    devices.configure(1, question.experiment.training.deterministic)
    trainer = Trainer(
        question.experiment,
        question.shape,
        question.classes,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        strategy=devices.strategy(WorkerPosition()),
    )
    check_method(question.experiment)
    check_controls(question.experiment)
    run = None if question.run is None else RunDirectory(open_store(question.run), read_only=True)
    kept = check_transfer(trainer, question.experiment, run)
    masks.check_levels(question.experiment.masks, trainer.prunable)
    return ModelFacts(trainer.parameters, trainer.prunable, kept, tuple(trainer.kernels))
