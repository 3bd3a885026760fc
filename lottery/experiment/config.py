"""An experiment: one YAML as frozen, typed structs, and its identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, inspect
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lottery.experiment.errors import all_finite, first_problem
from lottery.experiment.sections import (
    AdamW,
    Data,
    Gang,
    Input,
    Length,
    Masks,
    Model,
    Name,
    Section,
    Seed,
    Tickets,
    Training,
    Transfer,
    Verdict,
)
from preprocessing.common.errors import InputError
from preprocessing.common.places import local_path

# (key, key in whose place it is given)
_ALTERNATIVES = (
    ("seed", "seeds"),
    ("seeds", "seed"),
    ("masks.densities", "masks.iterative"),
    ("masks.iterative", "masks.densities"),
)


class Experiment(Section, frozen=True):
    """One YAML under conf/: everything that a sweep's results depend on, and how to lay the work out."""

    name: Name
    data: Data
    model: Model
    training: Training
    trellis: Annotated[tuple[Length, ...], Meta(min_length=1)]
    masks: Masks
    input: Input = Input()
    tickets: Tickets = Tickets()
    seed: Seed = 0  # of the dense run: its first weights and its order of samples
    gang: Gang = Gang()
    verdict: Verdict = Verdict()
    # Replicates: everything is done once for each, in the place of `seed`. One alone is kept as `seed`.
    seeds: tuple[Seed, ...] = ()
    transfer: Transfer | None = None  # where the mask and the tickets' first weights come from, if not from here
    # Which tickets are trained: all, or what finds the sparsest that matches. It changes no result.
    search: Literal["grid", "frontier"] = "grid"

    @property
    def replicates(self) -> tuple[Experiment, ...]:
        """The experiment with each of its seeds; only itself if it has one."""
        return tuple(msgspec.structs.replace(self, seed=seed, seeds=()) for seed in self.seeds) or (self,)


def load(path: str, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment in the YAML at `path`, with `overrides` (`section.key=value`, the value in YAML) applied.

    Raises InputError naming the file, the key and the value if one is unknown, missing or of the wrong type.
    """
    try:
        text = local_path(path, "experiment").read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"experiment {path}: is not UTF-8 text; give a YAML file such as conf/digits.yaml") from None
    except OSError as error:
        raise InputError(
            f"experiment {path}: {error.strerror}; give the path of a YAML file such as conf/digits.yaml"
        ) from None
    return parse(text, origin=path, overrides=overrides)


def parse(text: str, origin: str, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment in a YAML text; `origin` names the text in errors, which are those of `load`."""
    tree = _yaml(text, f"experiment {origin}")
    if not isinstance(tree, dict):
        raise InputError(f"experiment {origin}: holds no mapping of keys to values; start from conf/digits.yaml")
    _drop_alternatives(tree, overrides)
    for override in overrides:
        _override(tree, override)
    experiment = from_tree(tree, origin)
    if not all_finite(tree):
        raise _wrong(tree, origin, "a number is not finite; correct it")
    return experiment


def from_tree(tree: Any, origin: str) -> Experiment:
    """The experiment in plain dicts and lists, as from YAML or JSON; errors are those of `load`.

    Numbers may be infinite: earlier versions took and recorded such experiments, whose results can still be read.
    """
    try:
        experiment = msgspec.convert(tree, Experiment)
    except msgspec.ValidationError as error:
        raise _wrong(tree, origin, str(error)) from None
    if "seed" in tree and experiment.seeds:
        raise InputError(f"experiment {origin}: seed and seeds are both given; keep one of them")
    _check_lists(experiment, origin)
    _check_splits(experiment.data, origin)
    if bool(experiment.masks.densities) == (experiment.masks.iterative is not None):
        given = "both are" if experiment.masks.densities else "neither is"
        raise InputError(f"experiment {origin}: masks: give densities or iterative; {given} there")
    if len(experiment.seeds) == 1:
        experiment = experiment.replicates[0]
    if experiment.search == "frontier" and experiment.masks.iterative is not None:
        raise InputError(
            f"experiment {origin}: search: frontier bisects levels, but rounds of masks.iterative follow one another; "
            "give search: grid, or masks.densities"
        )
    if experiment.gang.ports[0] > experiment.gang.ports[1]:
        raise InputError(
            f"experiment {origin}: gang.ports: {list(experiment.gang.ports)} is not [first, last]; swap the two"
        )
    if experiment.tickets.start != "weight_rewinding" and experiment.tickets.schedule == "restart":
        raise InputError(
            f"experiment {origin}: tickets.schedule: restart makes all reset points of {experiment.tickets.start} the "
            "same; leave the key out, or set trellis to [0] for a whole schedule from the final weights"
        )
    if isinstance(experiment.training.optimizer, AdamW) and experiment.training.weight_decay_kind == "l2":
        raise InputError(
            f"experiment {origin}: training.weight_decay_kind: l2 is not adamw's; name adam, or drop the key"
        )
    return experiment


def _wrong(tree: Any, origin: str, otherwise: str) -> InputError:
    """The error on the first wrong value of a tree; `otherwise` is said if none is found."""
    return InputError(f"experiment {origin}: {first_problem(tree, inspect.type_info(Experiment)) or otherwise}")


def to_tree(experiment: Experiment) -> dict[str, Any]:
    """Plain dicts and lists without the fields that have their default; `from_tree` reads it back."""
    return _without_defaults(experiment)


def identity(experiment: Experiment, dataset_hash: str) -> str:
    """12 hex digits that name the results: a hash of every field that can change one, and of the dataset's content.

    Fields at their default are left out, so that a new field with a default leaves the old results where they are.
    """
    return digest([result_fields(experiment), dataset_hash])


def result_fields(experiment: Experiment) -> dict[str, Any]:
    """The tree of `to_tree` with only the fields that can change a result; `name` names the run directory as it is."""
    tree = to_tree(experiment)
    for name in ("gang", "search", "verdict"):
        tree.pop(name, None)
    reading = tree.pop("input", {})
    if "shuffle_window" in reading:
        tree["input"] = {"shuffle_window": reading["shuffle_window"]}
    tree.pop("name")
    if experiment.transfer is not None:  # wherever the ticket lies
        tree["transfer"] = {key: value for key, value in tree["transfer"].items() if key not in ("run", "ticket")}
    return tree


def digest(content: Any) -> str:
    """12 hex digits: a hash of plain dicts, lists and values."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _without_defaults(section: Struct) -> dict[str, Any]:
    config = section.__struct_config__
    tree: dict[str, Any] = {config.tag_field: config.tag} if config.tag_field else {}
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if default is msgspec.NODEFAULT or value != default:
            tree[field.name] = _without_defaults(value) if isinstance(value, Struct) else msgspec.to_builtins(value)
    return tree


def _yaml(text: str, origin: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(text)  # YAML 1.2: 1e-4 is a number, and a repeated key an error
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}:" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise InputError(f"{origin}:{where} not valid YAML: {problem}; correct it") from None


def _drop_alternatives(tree: dict[str, Any], overrides: Sequence[str]) -> None:
    """Drops a key of the file in whose place the command line gives another."""
    given = [override.partition("=")[0] for override in overrides]
    for key, other in _ALTERNATIVES:
        if _is_given(key, given) and not _is_given(other, given):
            *sections, last = other.split(".")
            section: Any = tree
            for name in sections:
                section = section.get(name) if isinstance(section, dict) else None
            if isinstance(section, dict):
                section.pop(last, None)


def _is_given(key: str, given: Sequence[str]) -> bool:
    return any(name == key or name.startswith(f"{key}.") for name in given)


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise InputError(f"--set {override}: expected section.key=value, such as training.length=20ep")
    *sections, last = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise InputError(f"--set {override}: {section} holds a value, not keys; name a key that the YAML has")
    tree[last] = _yaml(value, f"--set {override}")


def _check_splits(data: Data, origin: str) -> None:
    for key, other in (("data.evaluate", data.evaluate), ("data.train", data.train)):
        if data.select == other:
            raise InputError(
                f"experiment {origin}: data.select: {data.select} is {key} too; name another split, such as minival of "
                "preprocess.py --holdout, or leave the key out"
            )


def _check_lists(experiment: Experiment, origin: str) -> None:
    for name, values in (
        ("masks.densities", experiment.masks.densities),
        ("tickets.controls", experiment.tickets.controls),
        ("tickets.seeds", experiment.tickets.seeds),
        ("seeds", experiment.seeds),
    ):
        for value in values:
            if values.count(value) > 1:
                raise InputError(f"experiment {origin}: {name} names {value} twice; name each once")
