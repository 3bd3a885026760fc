"""A simulated cluster for the driver: so many slots for each stage, and what becomes of it."""

from __future__ import annotations

from pyspark import SparkConf

from lottery.driver import plan_report, preflight, stages
from lottery.driver import sweep as driver
from lottery.protocol import TaskPlacement
from preprocessing.common.errors import InputError


class Cluster:
    """Stands for Spark: so many slots for each stage in turn, and what becomes of it."""

    def __init__(self, monkeypatch, *fates, master="yarn"):
        self.master = master
        self.stages = list(fates)
        self.begun = []  # tasks of each stage, and how many of them train together
        self.probes, self.probe_fate = 0, None  # how often it was looked at, and what becomes of that
        self.settled = []  # whether it was waited for that, before each stage
        for module in (stages, plan_report):
            monkeypatch.setattr(module, "wait_for_slots", self.wait_for_slots)
        monkeypatch.setattr(driver, "run_gang", self.run_gang)
        monkeypatch.setattr(preflight, "run_gang", self.run_probes)
        monkeypatch.setattr(stages, "cancel", lambda context: None)

    def getConf(self):  # noqa: N802 - Spark's
        return SparkConf(loadDefaults=False)

    def wait_for_slots(self, context, seconds, last=0, settle=False):
        self.settled.append(settle)
        slots, _ = self.stages[0]
        if not slots:
            raise InputError("no executor had registered after 600 s")
        return slots

    def run_probes(self, context, tasks, work):
        self.probes += 1
        if self.probe_fate is not None:
            self.probe_fate()
        return [work(TaskPlacement(task, f"host:{task}", "host", (), 1, tasks, tasks)) for task in range(tasks)]

    def run_gang(self, context, tasks, work, together=1, ports=(0, 0)):
        self.begun.append((tasks, together))
        _, fate = self.stages.pop(0)
        return fate()


def fails(error):
    def fate():
        raise error

    return fate
