"""Whether an experiment's model can be built on an executor, and what it has; a child builds it."""

from __future__ import annotations

from collections.abc import Mapping

from lottery.executor.child import raise_input_error, run_child
from lottery.experiment.config import Experiment
from lottery.protocol import Event, ModelFacts, Question
from lottery.tickets import masks
from preprocessing.common.errors import InputError


def ask(question: Question, environment: Mapping[str, str]) -> ModelFacts:
    """What a child with this environment answers.

    Raises InputError if training could not begin, StorageError if the child's storage failed, and ChildError if the
    child cannot be killed.
    """
    answers: list[ModelFacts] = []

    def hear(event: Event) -> None:
        if isinstance(event, ModelFacts):
            answers.append(event)

    ended = run_child(question, environment, question.experiment.gang.hang_after, hear)
    if answers:
        return answers[-1]
    raise_input_error(ended)
    raise InputError(
        f"model {question.experiment.model.name}: the process that built it ended: {ended.reason}: {ended.message}; "
        "check that the executors' environment imports TensorFlow, and that their memory is enough"
    )


def lines(facts: ModelFacts, experiment: Experiment) -> list[str]:
    """What the model has and what the masks keep of it, as lines of text."""
    kept = [masks.kept_weights(density, facts.prunable) for density in experiment.masks.levels]
    found = [
        f"model: {experiment.model.name}, {facts.parameters:,} parameters, {facts.prunable:,} of them prunable; "
        f"the masks keep {', '.join(f'{count:,}' for count in kept)}"
    ]
    for count in sorted({count for count in kept if kept.count(count) > 1}, reverse=True):
        levels = [str(level) for level, here in enumerate(kept) if here == count]
        found.append(f"warning: levels {', '.join(levels)} all keep {_weights(count)}: their masks are equal")
    return found


def _weights(count: int) -> str:
    return f"{count:,} weight" if count == 1 else f"{count:,} weights"
