"""Has a child process with TensorFlow do the forward passes."""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Mapping

from lottery.executor.child import raise_input_error, run_child
from lottery.executor.child_environment import child_environment
from lottery.protocol import INTERPOLATED, NO_STATISTICS, RECOMPUTED, Event, LinePoints, Passes, Predictions
from preprocessing.common.errors import InputError

logger = logging.getLogger(__name__)

_LOG_EVERY = 10.0  # seconds


def pass_forward(
    passes: Passes, environment: Mapping[str, str] = os.environ
) -> tuple[list[LinePoints], list[Predictions]]:
    """What the child answers, in the order of what is asked for.

    Raises InputError or StorageError as the child does; InputError if it dies or leaves out an answer; ChildError if it
    cannot be killed.
    """
    answers = _Answers(passes)
    child = child_environment(one_gpu(environment), passes.cores, environment=environment)
    ended = run_child(passes, child, passes.experiment.gang.hang_after, answers.hear)
    if ended.status:
        raise_input_error(ended)
        raise InputError(
            f"the process with the forward passes ended: {ended.reason}: {ended.message}; check that TensorFlow can be "
            "imported here, and that memory is enough for the model"
        )
    answers.check()
    return answers.lines, answers.predictions


def one_gpu(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The GPU to use: the first of CUDA_VISIBLE_DEVICES, or the machine's first. It need not exist.

    >>> one_gpu({}), one_gpu({"CUDA_VISIBLE_DEVICES": "2,3"}), one_gpu({"CUDA_VISIBLE_DEVICES": ""})
    (('0',), ('2',), ())
    """
    first = environment.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    return () if first in ("", "-1") else (first,)


class _Answers:
    """Collects what a child reports, and logs how far it is."""

    def __init__(self, passes: Passes) -> None:
        self._passes, self._logged = passes, time.monotonic()
        self.lines: list[LinePoints] = []
        self.predictions: list[Predictions] = []

    def hear(self, event: Event) -> None:
        if isinstance(event, LinePoints):
            self.lines.append(event)
            self._log(f"lines: {event.line + 1} of {len(self._passes.lines)}")
        elif isinstance(event, Predictions) and event.network is not None:
            self.predictions.append(event)
            self._log(f"predictions: {event.network + 1} of {len(self._passes.networks)} networks")
        elif isinstance(event, Predictions):
            self.predictions.append(event)

    def check(self) -> None:
        """Raises InputError if an answer is missing: without it, what is left would be taken for all there is."""
        more = [RECOMPUTED] if self._passes.statistics_images else []
        found: dict[int, list[str]] = defaultdict(list)
        for answer in self.lines:
            found[answer.line].append(answer.statistics)
        for index, line in enumerate(self._passes.lines):
            if found[index] not in ([NO_STATISTICS], [INTERPOLATED, *more]):
                raise _missing(f"of the line between {line.one} and {line.other} of {line.run}")
        wanted = [None, *range(len(self._passes.networks))] if self._passes.networks else []
        if [answer.network for answer in self.predictions] != wanted:
            raise _missing("with predictions")

    def _log(self, line: str) -> None:
        if time.monotonic() - self._logged >= _LOG_EVERY:
            self._logged = time.monotonic()
            logger.info(line)


def _missing(answer: str) -> InputError:
    return InputError(
        f"the process with the forward passes ended without its answer {answer}; run the same command again"
    )
