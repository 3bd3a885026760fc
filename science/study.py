"""The studies: one sweep each, and the accuracies that it has found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lottery.experiment import config
from lottery.experiment.config import Experiment
from lottery.experiment.smoke import shrink
from lottery.run.results import TicketResult
from lottery.run.run_directory import RunDirectory
from lottery.run.search_state import read_search
from lottery.statistics.seeds import Accuracy
from lottery.tickets.tickets import NO_CONTROL

RESNET = "conf/fashion-resnet20.yaml"
LENET = "conf/science/fashion-lenet.yaml"
SPARSE = "masks.densities=[.0625, .03125, .015625, .0078125]"


@dataclass(frozen=True)
class Study:
    """An experiment of conf/, and what --set changes of it.

    Args:
        data: the folder below the output that holds its dataset.
        runs: the folder below the output that holds its run directory. Studies that share one share what they train.
    """

    experiment: str
    overrides: tuple[str, ...] = ()
    data: Literal["fashion", "digits"] = "fashion"
    runs: str = "runs"

    def load(self, smoke: bool = False) -> Experiment:
        """The experiment. Raises InputError if it is not valid."""
        loaded = config.load(self.experiment, self.overrides)
        return shrink(loaded) if smoke else loaded


def _at_initialisation(method: str) -> Study:
    changes = (f"masks.method={method}", SPARSE, "tickets.controls=[]")
    return Study(LENET, (f"name=fashion-lenet-{method}", *changes))


DIGITS = ("seeds=[0, 1, 2]", "tickets.controls=[]", "verdict.margin=1")

# In the order in which they are run. Those of one network share its dense runs.
STUDIES = {
    "resnet": Study(RESNET),
    "resnet_learning_rate": Study(
        RESNET,
        (
            "name=fashion-resnet20-learning_rate",
            "trellis=[0, 400]",
            "tickets.start=learning_rate_rewinding",
            "tickets.controls=[]",
        ),
    ),
    "lenet": Study(LENET),
    "lenet_iterative": Study(
        LENET, ("name=fashion-lenet-iterative", "masks.iterative={keep: .5, rounds: 7}", "tickets.controls=[]")
    ),
    "lenet_snip": _at_initialisation("snip"),
    "lenet_synflow": _at_initialisation("synflow"),
    "lenet_random": _at_initialisation("random"),
    "digits": Study("conf/digits.yaml", DIGITS, "digits"),
    # In a folder of its own, so that it cannot adopt the grid's tickets.
    "digits_frontier": Study("conf/digits.yaml", (*DIGITS, "search=frontier"), "digits", "runs-frontier"),
}


@dataclass(frozen=True)
class Outcome:
    """What a study has found, by replicate (its seed).

    `points` are the reset points, by step, as the experiment names them; `densities` those of the levels.
    """

    name: str  # of the experiment
    densities: tuple[float, ...]
    points: Mapping[int, str]
    evaluated: int
    dense: Mapping[int, Accuracy]
    results: Mapping[int, Sequence[TicketResult]]
    margin: float = 0.0  # of a match, in points
    frontier: Mapping[int, int] | None = None  # of a search: by reset step the sparsest level that matches, -1 for none

    @property
    def trainings(self) -> int:
        """How many tickets and controls were trained, over all replicates."""
        return sum(map(len, self.results.values()))

    def top1(self, level: int, step: int, control: str = NO_CONTROL) -> dict[int, Accuracy]:
        """Accuracy by replicate, a fraction: None if it diverged or failed; no entry if there is no such ticket."""
        found: dict[int, Accuracy] = {}
        for replicate, results in self.results.items():
            wanted = [
                each.top1
                for each in results
                if (each.level, each.step, each.control, each.seed) == (level, step, control, 0)
            ]
            if wanted:
                found[replicate] = wanted[0]
        return found

    @property
    def last_reset(self) -> int:
        """The latest reset point, in steps."""
        return max(self.points)


def read(run: RunDirectory, experiment: Experiment) -> Outcome:
    """What a finished sweep of an experiment has found. Raises InputError if the run directory is damaged."""
    line = run.origin().timeline
    replicates = {each.origin().experiment.seed: each for each in run.replicates()}
    dense = {seed: found for seed, each in replicates.items() if (found := each.dense_result()) is not None}
    return Outcome(
        name=experiment.name,
        densities=experiment.masks.levels,
        points={step: str(point) for step, point in zip(line.trellis, experiment.trellis, strict=True)},
        evaluated=next(iter(dense.values())).evaluated,
        dense={seed: result.top1 for seed, result in dense.items()},
        results={seed: each.results() for seed, each in replicates.items()},
        margin=experiment.verdict.margin,
        frontier=_frontier(experiment, line.trellis, run) if experiment.search == "frontier" else None,
    )


def _frontier(experiment: Experiment, steps: Sequence[int], run: RunDirectory) -> dict[int, int]:
    state = read_search(experiment, steps, run.replicates())
    return {answer.step: -1 if answer.level is None else state.levels[answer.level] for answer in state.search.answers}
