"""The experiment that trains a ticket on another dataset, written as a YAML that `jobs/lottery_sweep.py` runs."""

from __future__ import annotations

import fnmatch
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from msgspec.structs import replace
from ruamel.yaml import YAML

import lottery
from lottery.executor import model_check
from lottery.executor.child_environment import child_environment
from lottery.experiment import config
from lottery.experiment.config import Experiment
from lottery.experiment.steps import timeline
from lottery.export.choice import Chosen
from lottery.input import augment
from lottery.protocol import ModelFacts, Question
from lottery.run.ticket_files import first_weights, mask_of
from lottery.tickets import masks, transfer
from lottery.tickets.tickets import NO_CONTROL, Ticket
from preprocessing.common.errors import InputError
from preprocessing.common.places import local_path
from preprocessing.dataset.opening import Dataset

Classifier = Literal["kept", "new"]
# Of the ticket's experiment: what says how to train, and with what to compare.
_KEPT = ("data", "input", "model", "training", "tickets", "seed", "seeds", "gang", "verdict")


@dataclass(frozen=True)
class Transferred:
    """An experiment, and its YAML."""

    experiment: Experiment
    text: str


def transferred(
    chosen: Chosen, dataset: Dataset, recipe: Experiment, classifier: Classifier | None, overrides: Sequence[str] = ()
) -> Transferred:
    """The experiment that trains a ticket on a dataset, against the dense network and new weights with its mask.

    A child builds the model, to see whether the ticket fits.

    Args:
        recipe: how to train: the ticket's own experiment, or another of the same model.
        classifier: `new` if it is None and the classes have other names, or the ticket's are not recorded.
        overrides: `section.key=value`, as for `jobs/lottery_sweep.py`.

    Raises InputError if the ticket is a control, the models differ, or the ticket does not fit the dataset's images.
    """
    if chosen.ticket is None or chosen.ticket.control != NO_CONTROL:
        raise InputError(f"ticket {chosen.name}: is what tickets are compared with; name a ticket")
    if recipe.model != chosen.origin.experiment.model:
        raise InputError(
            f"--experiment: its model is {recipe.model.name} {dict(recipe.model.options)}, the ticket's "
            f"{chosen.origin.experiment.model.name} {dict(chosen.origin.experiment.model.options)}; give the same"
        )
    tree = _tree(chosen, chosen.ticket, recipe, classifier or _classifier(chosen, dataset))
    first = _parsed(tree, overrides)
    side, classes = augment.side(first.data, dataset.size), len(dataset.class_names)
    augment.check(first.data, dataset.size)
    timeline(first, dataset.split(first.data.train).count)
    transfer.check(first)

    def ask(experiment: Experiment) -> ModelFacts:
        return model_check.ask(Question(experiment, (side, side, 3), classes), child_environment((), 1))

    if tree["masks"]["exclude"] and chosen.origin.experiment.masks.classifier and not first.masks.classifier:
        tree["masks"]["exclude"] = _of_others(tree["masks"]["exclude"], ask(_without_ticket(first)).kernels)
        first = _parsed(tree, overrides)
    facts = ask(first)
    assert facts.kept is not None
    tree["masks"]["densities"] = [facts.kept / facts.prunable]  # so that the mask has its density to the weight
    found = _parsed(tree, overrides)
    return Transferred(found, _yaml(config.to_tree(found)))


def command(submit: Sequence[str], experiment: str, data: str, runs: str) -> list[str]:
    """The command that runs an experiment. Raises InputError if this installation has no jobs."""
    job = Path(lottery.__file__).parents[1] / "jobs" / "lottery_sweep.py"
    if not job.exists():
        raise InputError(f"{job}: is not there; run the command from a checkout, or from the archive of `make dist`")
    return [*submit, str(job), "--experiment", experiment, "--data", data, "--runs", runs]


def write(found: Transferred, path: str) -> None:
    """Writes the YAML to a local file. Raises InputError if there is something else, or it cannot be written."""
    file, blob = local_path(path, "--output"), found.text.encode()
    try:
        if file.exists() and file.read_bytes() != blob:
            raise InputError(f"--output {path}: something else is there already; delete it, or give another --output")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(blob)
    except OSError as error:
        raise InputError(f"--output {path}: {error.strerror}; choose another place") from None


def _without_ticket(experiment: Experiment) -> Experiment:
    """The experiment, to ask which kernels can be pruned if none is excluded."""
    return replace(experiment, transfer=None, masks=replace(experiment.masks, densities=(1.0,), exclude=()))


def _of_others(patterns: Sequence[str], kernels: Sequence[str]) -> list[str]:
    """The patterns that match one of these kernels: others were for the classifier alone, and would be refused."""
    return [pattern for pattern in patterns if any(fnmatch.fnmatchcase(kernel, pattern) for kernel in kernels)]


def _classifier(chosen: Chosen, dataset: Dataset) -> Classifier:
    recorded = chosen.run.dataset()
    if recorded is None:
        return "kept" if dataset.content_hash == chosen.origin.dataset_hash else "new"
    return "kept" if list(recorded.classes) == dataset.class_names else "new"


def _tree(chosen: Chosen, ticket: Ticket, recipe: Experiment, classifier: Classifier) -> dict[str, Any]:
    own = chosen.origin.experiment
    mask, weights = mask_of(chosen.run, ticket, own), first_weights(chosen.run, ticket, own)
    tree = {key: value for key, value in config.to_tree(recipe).items() if key in _KEPT}
    prunable = own.masks.classifier and classifier == "kept"
    tickets = {key: value for key, value in tree.pop("tickets", {}).items() if key in ("seeds", "controls")}
    return {
        "name": f"{own.name}-transferred",
        **tree,
        "trellis": [0],
        "masks": {
            "densities": [masks.kept(mask) / masks.prunable_weights(mask)],
            "classifier": prunable,
            "exclude": list(own.masks.exclude),
        },
        "tickets": {**tickets, "controls": _with_reinit(tickets.get("controls", ()))},
        "transfer": {
            "run": chosen.run.uri,
            "ticket": ticket.name,
            "source": transfer.source_hash(mask, weights),
            "classifier": classifier,
        },
    }


def _with_reinit(controls: Sequence[str]) -> list[str]:
    return list(controls) if "reinit" in controls else ["reinit", *controls]


def _parsed(tree: Mapping[str, Any], overrides: Sequence[str]) -> Experiment:
    return config.parse(_yaml(tree), "of the transfer", overrides)


def _yaml(tree: Mapping[str, Any]) -> str:
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.default_flow_style = False
    yaml.dump(dict(tree), stream)
    return stream.getvalue()
