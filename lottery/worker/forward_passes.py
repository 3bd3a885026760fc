"""Forward passes of trained networks: along lines between two of them, and their predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import msgspec
import numpy as np

from lottery.input.augment import image_shape
from lottery.input.evaluation_batches import EvaluationInput
from lottery.input.scored_images import scored_images
from lottery.protocol import (
    INTERPOLATED,
    NO_STATISTICS,
    RECOMPUTED,
    Line,
    LinePoints,
    Passes,
    Predictions,
    Progress,
    Report,
    TrainedNetwork,
)
from lottery.run import provenance
from lottery.run.run_directory import RunDirectory
from lottery.training.interpolation import interpolate
from lottery.training.network import Network, Variables, on_device
from lottery.training.scores import means
from lottery.worker import devices
from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from preprocessing.dataset.opening import Dataset

_BATCH = 256  # images
_TOGETHER = 8  # networks that predict in one pass over the split


def pass_forward(passes: Passes, report: Report) -> None:
    """Does what is asked for, and reports it.

    Raises InputError if the dataset or the model has changed since the networks were trained, or a state is damaged.
    """
    devices.configure(passes.cores, passes.experiment.training.deterministic)
    measurement = Measurement(passes, report)
    for index, line in enumerate(passes.lines):
        for points in measurement.line(index, line):
            report(points)
    measurement.predict()


class Measurement:
    """One request for forward passes at work: the network, and the images."""

    def __init__(self, passes: Passes, report: Report) -> None:
        self._passes, self._report = passes, report
        experiment, dataset = passes.experiment, Dataset.open(passes.data)
        if dataset.content_hash != passes.dataset_hash:
            raise InputError(
                f"--data: {dataset.describe()} is not the dataset that these networks were trained on; its hash is "
                f"{dataset.content_hash[:12]}, theirs {passes.dataset_hash[:12]}; give the one they were trained on"
            )
        shape = image_shape(experiment.data, dataset.size)
        self._network = Network(experiment, shape, len(dataset.class_names), (dataset.mean, dataset.std))
        self._check_model()
        limit = experiment.training.evaluate_batches
        # Large batches: a call for each network and batch would take most of the time of small models.
        batch = max(_BATCH, experiment.data.batch) if limit is None else experiment.data.batch
        data = msgspec.structs.replace(experiment.data, batch=batch)
        self._evaluation = EvaluationInput(dataset, data, experiment.input, limit=limit)
        self._statistics_batches: list[Any] = []
        if passes.lines and passes.statistics_images and self._network.has_statistics:
            count = min(passes.statistics_images, dataset.split(experiment.data.train).count)
            batches = scored_images(
                dataset, experiment.data, experiment.seed, experiment.input, count, experiment.data.batch
            )
            self._statistics_batches = [images for images, _ in batches]

    def line(self, index: int, line: Line) -> Iterator[LinePoints]:
        """The scores along a line, first with statistics interpolated, then recomputed if that was asked for."""
        one, other = (self._arrays(TrainedNetwork(line.run, name)) for name in (line.one, line.other))
        networks = [on_device(interpolate(one, other, position)) for position in self._passes.positions]
        yield self._scores(index, INTERPOLATED if self._network.has_statistics else NO_STATISTICS, networks)
        if self._statistics_batches:
            renewed = [self._network.renormalised(each, self._heard(self._statistics_batches)) for each in networks]
            yield self._scores(index, RECOMPUTED, renewed)

    def predict(self) -> None:
        """Reports the labels, and each network's predictions."""
        networks = iter(enumerate(self._passes.networks))
        labelled = False
        while some := list(islice(networks, _TOGETHER)):
            states = [on_device(self._arrays(network)) for _, network in some]
            labels, found = self._in_turns(states, lambda state, images, _: self._network.classes(state, images))
            if not labelled:
                self._report(_predictions(None, labels))
                labelled = True
            for (index, _), classes in zip(some, found, strict=True):
                self._report(_predictions(index, classes))

    def _scores(self, index: int, statistics: str, networks: Sequence[Variables]) -> LinePoints:
        _, sums = self._in_turns(networks, self._network.sums)
        found = [means(np.sum(total, axis=0)) for total in sums]
        return LinePoints(
            index,
            statistics,
            tuple(1 - scores.top1 for scores in found),
            tuple(scores.loss if math.isfinite(scores.loss) else None for scores in found),
            self._evaluation.count,
        )

    def _in_turns(
        self, states: Sequence[Variables], compute: Callable[[Variables, Any, Any], tuple[Any, Variables]]
    ) -> tuple[list[Any], list[list[Any]]]:
        """The split's labels by batch, and what each network computes of each batch, in one pass over the split."""
        states, labels_seen = list(states), []
        found: list[list[Any]] = [[] for _ in states]
        with closing(self._evaluation.batches()) as batches:
            for images, labels in self._heard(batches):
                labels_seen.append(labels)
                for place, state in enumerate(states):
                    value, states[place] = compute(state, images, labels)
                    found[place].append(value)
        return labels_seen, found

    def _heard(self, batches: Any) -> Iterator[Any]:
        """The batches, with a sign of life for each."""
        for batch in batches:
            self._report(Progress(0))
            yield batch

    def _arrays(self, network: TrainedNetwork) -> dict[str, Any]:
        run = RunDirectory(open_store(network.run))
        file, remedy = run.state_file(network.training)
        state = run.checkpoint(network.training)
        if state is None:
            raise InputError(f"{file} is missing; {remedy}")
        return self._network.arrays(state.variables, file, remedy)

    def _check_model(self) -> None:
        """Raises InputError if the model is another than that of the networks."""
        asked = [*(line.run for line in self._passes.lines), *(network.run for network in self._passes.networks)]
        for uri in dict.fromkeys(asked):
            recorded = RunDirectory(open_store(uri)).provenance()
            if recorded is not None:
                provenance.changes(recorded, self._network.provenance, self._passes.experiment.model.name)


def _predictions(network: int | None, batches: Sequence[Any]) -> Predictions:
    return Predictions(network, np.concatenate(batches).astype("<i4").tobytes())
