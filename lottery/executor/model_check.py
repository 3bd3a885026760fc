"""Whether an experiment's model can be built on an executor: a child finds out, as only children load TensorFlow.

`python -m lottery.executor.model_check` is that child: the question on its standard input, the answer (the facts, or
`Failed`) as its last line of output.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import msgspec

from lottery.experiment.config import Experiment
from lottery.protocol import Failed
from lottery.tickets import masks
from preprocessing.common.errors import InputError, failure_of
from preprocessing.common.program import run_or_explain

_TIMEOUT = 600.0  # seconds; a first import from a network file system is slow, and so is a large model


class Question(msgspec.Struct, frozen=True):
    """What to build: the experiment's model for images of shape [height, width, channels], and its classes."""

    experiment: Experiment
    shape: tuple[int, int, int]
    classes: int


class ModelFacts(msgspec.Struct, frozen=True, tag="facts"):
    """What a model has: weights, and how many of them can be pruned."""

    parameters: int
    prunable: int


_ANSWERS: msgspec.json.Decoder[ModelFacts | Failed] = msgspec.json.Decoder(ModelFacts | Failed)


def ask(question: Question, environment: Mapping[str, str]) -> ModelFacts:
    """Builds the model in a child with this environment. Raises InputError if training could not begin."""
    name = question.experiment.model.name
    try:
        done = subprocess.run(
            [sys.executable, "-m", "lottery.executor.model_check"],
            input=msgspec.json.encode(question),
            capture_output=True,
            env=environment,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"model {name}: it was not built within {_TIMEOUT:.0f} s; look at the machine") from None
    try:
        answer = _ANSWERS.decode(done.stdout.strip().rpartition(b"\n")[2])
    except ValueError:  # msgspec's own, or Unicode's
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise InputError(
            f"model {name}: building it ended with status {done.returncode}: {said[-1]}; "
            "check that the executors' environment imports TensorFlow, and that their memory is enough"
        ) from None
    if isinstance(answer, Failed):
        raise InputError(answer.failure.message)
    return answer


def lines(facts: ModelFacts, experiment: Experiment) -> list[str]:
    """What the model has and what the masks keep of it, as lines of text."""
    kept = [masks.kept_weights(density, facts.prunable) for density in experiment.masks.densities]
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


def _main() -> int:
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    try:
        answer: ModelFacts | Failed = _build(question)
    except InputError as error:
        answer = Failed(failure_of(error))
    print(msgspec.json.encode(answer).decode(), flush=True)
    return 0


def _build(question: Question) -> ModelFacts:
    from lottery.worker.hide_modules import hide_modules

    with hide_modules("matplotlib", "pandas", "sklearn"):
        from lottery.training.trainer import Trainer
        from lottery.worker import devices
        from lottery.worker.position import WorkerPosition
    # As a child builds it to train.
    devices.configure(1, question.experiment.training.deterministic)
    trainer = Trainer(
        question.experiment,
        question.shape,
        question.classes,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        strategy=devices.strategy(WorkerPosition()),
    )
    masks.check_densities(question.experiment.masks.densities, trainer.prunable)
    return ModelFacts(trainer.parameters, trainer.prunable)


if __name__ == "__main__":
    run_or_explain(_main)
