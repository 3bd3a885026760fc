"""A bundle whose states do not fit on the device is halved; the halves find its memory free, and lose no step."""

from __future__ import annotations

import gc
import weakref

import pytest

from lottery.executor.supervisor import Ended
from lottery.executor.task import run_tickets
from lottery.protocol import EXIT_OUT_OF_MEMORY, Failed, TaskPlacement, decode_instructions, encode_event
from lottery.tickets.tickets import Ticket
from lottery.worker.member import Member
from preprocessing.common.errors import Failure, Kind
from tests.lottery.small_training import batches, config, rates, trainer
from tests.lottery.worker_runs import files

TICKETS = tuple(Ticket(level, step) for level in (0, 1) for step in (5, 10))
FIT = 3  # two of a bundle's, and the last that the test's one trainer has been left with


def test_a_bundle_whose_states_do_not_fit_is_halved(after_dense, worker, monkeypatch, tensorflow):
    from lottery.training import trainer as module

    whole, scarce = after_dense("whole"), after_dense("scarce")
    worker(whole, *TICKETS).train_tickets()
    resident, children, trained = weakref.WeakSet(), [], []

    class State(module.State):
        def __init__(self, vectors, layouts):
            super().__init__(vectors, layouts)
            resident.add(self)

        __hash__ = object.__hash__

    run = module.Trainer.run

    def runs(self, images, labels, rates):
        gc.collect()
        if len(resident) > FIT:
            raise tensorflow.errors.ResourceExhaustedError(None, None, "OOM when allocating a tensor")
        losses = run(self, images, labels, rates)
        trained.append(len(rates))
        return losses

    monkeypatch.setattr(module, "State", State)
    monkeypatch.setattr(module.Trainer, "run", runs)

    def supervise(name, message, environment, hang_after, on_line, other_ended):
        gc.collect()
        assert len(resident) <= 1  # what the last child had is freed
        tickets = decode_instructions(message).assignment.tickets
        children.append(len(tickets))
        try:
            worker(scarce, *tickets, tell=lambda event: on_line(encode_event(event))).train_tickets()
        except tensorflow.errors.ResourceExhaustedError as error:
            on_line(encode_event(Failed(Failure(Kind.OUT_OF_MEMORY, error.message))))
            return Ended(EXIT_OUT_OF_MEMORY, "exit status 3", "")
        return Ended(0, "exit status 0", "")

    monkeypatch.setattr("lottery.executor.child.supervise", supervise)
    run_tickets([scarce.assignment(TICKETS)], TaskPlacement(), parameters=1000)
    assert children == [4, 2, 2]
    assert sum(trained) == sum(30 - ticket.step for ticket in TICKETS)  # no step twice
    assert {ticket: files(scarce, ticket) for ticket in TICKETS} == {ticket: files(whole, ticket) for ticket in TICKETS}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        # As TensorFlow 2.21 and cuDNN 9.19 said it on a full GPU.
        (
            "UnknownError",
            "CUDNN failed to allocate the scratch space for the runner or to find a working no-scratch r.",
        ),
        ("InternalError", "CUBLAS_STATUS_ALLOC_FAILED"),
    ],
)
@pytest.mark.parametrize("function", ["run", "sums"])
def test_memory_that_cudas_libraries_lack_is_lacking_memory(tensorflow, monkeypatch, kind, words, function):
    trained = trainer(tensorflow, config())

    def full(*arguments):
        message = f"Graph execution error:\n\nDetected at node x\n  (0) UNKNOWN:  {words}\n\t [[{{{{node x}}}}]]"
        raise getattr(tensorflow.errors, kind)(None, None, message)

    monkeypatch.setattr(trained._graph, function, full)
    images, labels = batches(1)
    call = trained.run if function == "run" else trained.score_sums
    arguments = (images, labels, rates(1)) if function == "run" else (images[0], labels[0])
    with pytest.raises(tensorflow.errors.ResourceExhaustedError) as caught:
        call(*arguments)
    assert caught.value.message == f"OOM: (0) UNKNOWN:  {words}"


def test_another_unknown_error_stays_what_it_is(tensorflow, monkeypatch):
    trained = trainer(tensorflow, config())

    def fails(*arguments):
        raise tensorflow.errors.UnknownError(None, None, "CUDNN_STATUS_EXECUTION_FAILED")

    monkeypatch.setattr(trained._graph, "run", fails)
    with pytest.raises(tensorflow.errors.UnknownError) as caught:
        trained.run(*batches(1), rates(1))
    assert type(caught.value) is tensorflow.errors.UnknownError


def test_a_ticket_that_has_diverged_leaves_its_memory_to_the_others():
    """Its state would stay on the device until the bundle's end."""
    member = Member(TICKETS[0], {}, {"a": 1})
    member.end("diverged", "the loss is nan")
    assert not member.state
