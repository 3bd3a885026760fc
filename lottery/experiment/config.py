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
from preprocessing.common.errors import InputError
from preprocessing.common.places import local_path

Positive = Annotated[int, Meta(ge=1)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Share = Annotated[float, Meta(gt=0, le=1)]
Density = Annotated[float, Meta(gt=0, le=1)]
PositiveFloat = Annotated[float, Meta(gt=0)]
NonNegativeFloat = Annotated[float, Meta(ge=0)]
Seed = Annotated[int, Meta(ge=0, lt=2**31)]
# A count of batches (`500`) or of epochs (`2ep`, `0.5ep`); lottery.experiment.steps turns it into a step.
Epochs = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?ep$", description="epochs such as 2ep or 0.5ep")]
Length = Annotated[int, Meta(ge=0)] | Epochs
# Begins the name of the run directory, and of reports.
Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.]*(-[A-Za-z0-9_.]+)*$",
        description="letters, digits, dots and underscores, in parts that single hyphens join",
    ),
]
Auto = Literal["auto"]
# (key, key in whose place it is given)
_ALTERNATIVES = (
    ("seed", "seeds"),
    ("seeds", "seed"),
    ("masks.densities", "masks.iterative"),
    ("masks.iterative", "masks.densities"),
)
Port = Annotated[int, Meta(ge=1024, le=65_535)]


class _Section(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every section. Fields at their default are not in the identity, so a released default never changes."""


class Data(_Section, frozen=True):
    """Which splits of the dataset, in batches of how many images (over all replicas), cropped how."""

    batch: Positive
    train: str = "train"
    evaluate: str = "val"
    crop: Positive | None = None  # pixels a side; random in training, central in evaluation
    pad: Annotated[int, Meta(ge=0)] = 0  # black pixels around an image before its random crop, in training
    flip: bool = False  # left to right, at random, in training
    # Fractions of the area, least and most: in training a random part of the image is resized to `crop`.
    crop_scale: tuple[Share, Share] | None = None
    crop_aspect: tuple[PositiveFloat, PositiveFloat] = (3 / 4, 4 / 3)  # width to height of that part, least and most
    colour: Annotated[float, Meta(ge=0, lt=1)] = 0.0  # by how much brightness, contrast and saturation vary in training
    augment: Literal["host", "device"] = "host"  # where training images are cropped, flipped and recoloured


class Input(_Section, frozen=True):
    """How the dataset is read. Only `shuffle_window` can change a result, and only it is in the identity."""

    # Row groups that are shuffled together: `all` is a permutation of all images, a number also suits remote datasets.
    shuffle_window: Positive | Literal["all"] = "all"
    cache_dir: str | None = None  # a local folder that caches a remote dataset for all processes of a node
    cache_bytes: Positive = 100 * 2**30  # how large it may become
    read_threads: Positive = 8  # that read from a remote dataset
    threads: Positive | Auto = "auto"  # that decode, crop and copy; `auto`: the task's cores, at most 8


class Model(_Section, frozen=True):
    """A model of the registry by its name, and the options of its builder."""

    name: str
    options: dict[str, bool | int | float | str] = {}


class SGD(_Section, frozen=True, tag_field="name", tag="sgd"):
    """Stochastic gradient descent with (Nesterov) momentum."""

    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    nesterov: bool = False


class Adam(_Section, frozen=True, tag_field="name", tag="adam"):
    """Kingma and Ba, 2015."""

    beta_1: Fraction = 0.9
    beta_2: Fraction = 0.999
    epsilon: PositiveFloat = 1e-7


class AdamW(_Section, frozen=True, tag_field="name", tag="adamw"):
    """Loshchilov and Hutter, 2019: weight decay is decoupled from the gradient."""

    beta_1: Fraction = 0.9
    beta_2: Fraction = 0.999
    epsilon: PositiveFloat = 1e-7


class LearningRate(_Section, frozen=True):
    """Linear warm-up from 0 to `peak`, then `decay` from `decay_start` (the end of the warm-up) to the end."""

    peak: PositiveFloat
    warmup: Length = 0
    decay: Literal["constant", "linear", "cosine", "step", "exponential"] = "constant"
    decay_start: Length | None = None
    milestones: tuple[Length, ...] = ()  # of `step`: the rate is multiplied by `factor` at each
    factor: PositiveFloat = 0.1  # of `step`: at each milestone; of `exponential`: over the whole decay


class Training(_Section, frozen=True):
    """The recipe that the dense run and every ticket share."""

    length: Length
    optimizer: SGD | Adam | AdamW
    learning_rate: LearningRate
    weight_decay: NonNegativeFloat = 0.0  # on kernels only
    weight_decay_kind: Literal["l2", "decoupled"] | None = None  # None: decoupled for adamw, else l2
    clip_norm: PositiveFloat | None = None  # bound of the global L2 norm of the loss' gradient
    label_smoothing: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    synchronized_batch_norm: bool = False  # statistics over all replicas' images, not over each one's own
    evaluate_every: Length | None = None  # besides the evaluation at the end
    evaluate_batches: Positive | None = None  # only the first so many of the evaluation split
    deterministic: bool = True  # the same bits from the same inputs, however often it was interrupted
    compile: Literal["xla"] | None = None  # compiles each step; None: TensorFlow runs it operation by operation


class Iterative(_Section, frozen=True):
    """Rounds of pruning: each keeps a share of what the round before it has left, and ranks its trained weights."""

    keep: Annotated[float, Meta(gt=0, lt=1)]
    rounds: Annotated[int, Meta(ge=1, le=1000)]  # each is a level, which plans and reports list


class Masks(_Section, frozen=True, omit_defaults=True):  # a child would refuse the empty `densities`
    """Level i keeps the fraction `levels[i]` of the dense run's prunable weights."""

    densities: Annotated[tuple[Density, ...], Meta(min_length=1)] = ()
    iterative: Iterative | None = None  # in the place of `densities`
    classifier: bool = True  # whether the kernel that feeds the output is prunable
    method: str = "global_magnitude"  # a name from lottery.tickets.mask_methods, or `package.module:function`
    at: Length | None = None  # the trellis point whose weights are scored; None: as the method's paper has it
    images: Positive | None = None  # on which gradients are taken, by the methods that need them; None: one batch
    exclude: tuple[str, ...] = ()  # patterns of kernels' paths (fnmatch) that are not prunable

    @property
    def levels(self) -> tuple[float, ...]:
        """The densities of all levels; of an iterative experiment these are its rounds."""
        if self.iterative is not None:
            return tuple(self.iterative.keep ** (number + 1) for number in range(self.iterative.rounds))
        return self.densities

    @property
    def of_dense_run(self) -> int:
        """How many levels, the first ones, have masks that are made from the dense run."""
        return len(self.levels) if self.iterative is None else 1


class Tickets(_Section, frozen=True):
    """What is trained from each mask at each point of the trellis."""

    # Weights of the reset step; or the final weights, with the learning rates from the reset step on, or the last rate.
    start: Literal["weight_rewinding", "learning_rate_rewinding", "fine_tuning"] = "weight_rewinding"
    schedule: Literal["continue", "restart"] = "continue"  # learning rate and data order, from the reset step or from 0
    optimizer_state: Literal["fresh", "rewind"] = "fresh"  # `rewind`: as the dense run had it with these weights
    controls: tuple[str, ...] = ()  # names from lottery.tickets.controls
    seeds: Annotated[tuple[Seed, ...], Meta(min_length=1)] = (0,)


class Gang(_Section, frozen=True):
    """How the work is laid out. Nothing here is in the identity, since nothing here can change a result, but for the
    order of sums and the zeros of dropout if executors train together."""

    tasks: Positive | Auto = "auto"  # `auto`: as many as the cluster has slots, at most one per mask and executor of it
    dense_executors: Positive | Auto = "auto"  # that train the dense run together; `auto`: all that divide the batch
    executors_per_ticket: Positive = 1  # that train a bundle together
    ports: tuple[Port, Port] = (40_000, 40_999)  # first and last at which executors that train together reach another
    bundle: Positive | Auto = "auto"  # tickets that one process trains together; `auto`: by the memory there is
    checkpoint: PositiveFloat | Auto = "auto"  # seconds between checkpoints; `auto`: Daly's rule
    mean_time_between_failures: PositiveFloat = 86_400.0  # seconds, of one executor
    check_gpus: bool = True  # that TensorFlow sees the executors' GPUs: on all of them beforehand, and in each child
    wait_for_executors: PositiveFloat = 600.0  # seconds, at the start, for all of spark.executor.instances
    hang_after: PositiveFloat = 900.0  # seconds without a sign of progress, after which a child is killed


class Experiment(_Section, frozen=True):
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
    # Replicates: everything is done once for each, in the place of `seed`. One alone is kept as `seed`.
    seeds: tuple[Seed, ...] = ()

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
    if bool(experiment.masks.densities) == (experiment.masks.iterative is not None):
        given = "both are" if experiment.masks.densities else "neither is"
        raise InputError(f"experiment {origin}: masks: give densities or iterative; {given} there")
    if len(experiment.seeds) == 1:
        experiment = experiment.replicates[0]
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
    tree.pop("gang", None)
    reading = tree.pop("input", {})
    if "shuffle_window" in reading:
        tree["input"] = {"shuffle_window": reading["shuffle_window"]}
    tree.pop("name")
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
