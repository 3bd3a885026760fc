"""Copies a dense run or a ticket from one run directory to another, where it then is as if it were trained there.

The result comes last, so a copy that was cut short is made again or, if the other directory is gone, trained on. What
is copied is decoded on the way: damage is not copied.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lottery.run.run_directory import DENSE, DenseResult, RunDirectory
from lottery.tickets.tickets import Ticket


def adopt_dense(source: RunDirectory, target: RunDirectory, result: DenseResult, steps: Sequence[int]) -> None:
    """Copies a dense run that is done, with this result, and its states at these steps.

    Raises InputError if a file is damaged or missing. What the target has trained of its dense run then stays.
    """
    state, metrics, provenance = source.final_dense_state(), source.metrics(DENSE), source.provenance()
    answers = source.answers(DENSE, result.top1, result.select_top1)
    if target.has_checkpoint(DENSE):  # days of training are not given up for a copy that turns out to be damaged
        for step in steps:
            source.trellis_state(step)
    target.discard_dense()  # a checkpoint of its own must not continue between another's states
    for step in steps:
        target.write_trellis_state(source.trellis_state(step))
    if provenance is not None:
        target.write_provenance(provenance)
    target.write_metrics(DENSE, metrics)
    if answers is not None:  # an earlier version kept none
        target.write_answers(DENSE, answers)
    target.write_checkpoint(DENSE, state)
    target.write_dense_result(result)


def adopt_ticket(source: RunDirectory, there: Ticket, target: RunDirectory, here: Ticket) -> None:
    """Copies a ticket that has a result; it may have another level and so another name there.

    Raises InputError if a file is damaged or missing.
    """
    result, state = source.result(there), source.checkpoint(there.name)
    answers = source.answers(there.name, result.top1, result.select_top1)
    target.write_metrics(here.name, source.metrics(there.name))
    if answers is not None:
        target.write_answers(here.name, answers)
    else:  # its own from before it was reopened would not be those of this result
        target.discard_answers(here.name)
    if state is not None:  # one that diverged may have saved none
        target.write_checkpoint(here.name, state)
    target.write_result(msgspec.structs.replace(result, level=here.level))
