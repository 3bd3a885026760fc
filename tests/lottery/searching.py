"""A simulated gang that trains what it is asked to, to accuracies that a test makes up."""

from __future__ import annotations

from collections import Counter

from lottery.driver import sweep as driver
from lottery.driver.gang import GangError
from lottery.experiment.steps import timeline
from lottery.protocol import TaskPlacement
from lottery.run.results import DenseResult, TicketResult
from lottery.run.run_directory import RunDirectory
from lottery.tickets.controls import is_for_all_levels
from preprocessing.common.storage import open_store
from tests.lottery.fake_cluster import Cluster

DENSE = 0.9
# Digits are evaluated on this many images here: differences of a point are 10 images.
IMAGES = 1000


class Gang(Cluster):
    """Trains a ticket to `accuracy(replicate's seed, ticket)`: None diverges, an exception is the status failed.

    After `dies_after` trainings in all it dies.
    """

    def __init__(self, monkeypatch, accuracy, slots=4, dies_after=10**9):
        super().__init__(monkeypatch, (slots, None))
        self.accuracy, self.dies_after = accuracy, dies_after
        self.trained = Counter()  # (seed, ticket)
        self.dense = []  # seeds
        monkeypatch.setattr(driver.task, "run_tickets", self.run_tickets)
        monkeypatch.setattr(driver.task, "run_dense", self.run_dense)

    def run_gang(self, context, tasks, work, together=1, ports=(0, 0)):
        self.begun.append((tasks, together))
        for task in range(0, tasks, together):  # of those that train together the chief
            work(TaskPlacement(task, f"host:{task}", tasks=tasks, endpoints=("",) * together))

    def run_dense(self, assignments, placement, stage):
        for each in assignments:
            run = RunDirectory(open_store(each.run))
            run.write_dense_result(dense_result())
            self.dense.append(each.experiment.seed)
            for level in range(len(each.experiment.masks.levels)):
                run.write_mask(level, {})

    def run_tickets(self, assignments, placement, parameters, stage):
        for each in assignments:
            for ticket in each.tickets:
                if sum(self.trained.values()) == self.dies_after:
                    raise GangError("executor lost")
                self.trained[each.experiment.seed, ticket] += 1
                self._write(each, ticket)

    def _write(self, assignment, ticket):
        config, status = assignment.experiment, "done"
        top1 = self.accuracy(config.seed, ticket)
        if top1 is None or isinstance(top1, Exception):
            status, top1 = ("diverged" if top1 is None else "failed"), None
        whole = result(
            ticket,
            status=status,
            top1=top1,
            density=1.0 if is_for_all_levels(ticket.control) else config.masks.levels[ticket.level],
            epoch=timeline(config, assignment.train_images).epoch(ticket.step),
        )
        RunDirectory(open_store(assignment.run)).write_result(whole)


def dense_result(**fields):
    """A dense run that is done."""
    scores = {"top1": DENSE, "top5": 1.0, "loss": 0.1, "evaluated": IMAGES}
    sizes = {"steps": 30, "seconds": 1.0, "parameters": 1000, "prunable": 900}
    return DenseResult(**{"status": "done", "note": "", **scores, **sizes, **fields})


def result(ticket, **fields):
    """A result of a ticket, by default one that is done."""
    names = {"level": ticket.level, "step": ticket.step, "control": ticket.control, "seed": ticket.seed}
    scores = {"status": "done", "note": "", "top1": DENSE, "top5": 1.0, "loss": 0.1}
    sizes = {"density": 1.0, "kept": 1, "prunable": 900, "epoch": 0.0, "steps": 1, "seconds": 1.0}
    return TicketResult(**{**names, **scores, **sizes, "executor": "host:0", "task": 0, **fields})
