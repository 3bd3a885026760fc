"""The sections of an experiment's YAML, as frozen, typed structs."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

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
Port = Annotated[int, Meta(ge=1024, le=65_535)]


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every section. Fields at their default are not in the identity, so a released default never changes."""


class Data(Section, frozen=True):
    """Which splits of the dataset, in batches of how many images (over all replicas), cropped how."""

    batch: Positive
    train: str = "train"
    evaluate: str = "val"
    select: str | None = None  # the split on which the best reset point is chosen; None: on `evaluate`
    crop: Positive | None = None  # pixels a side; random in training, central in evaluation
    pad: Annotated[int, Meta(ge=0)] = 0  # black pixels around an image before its random crop, in training
    flip: bool = False  # left to right, at random, in training
    # Fractions of the area, least and most: in training a random part of the image is resized to `crop`.
    crop_scale: tuple[Share, Share] | None = None
    crop_aspect: tuple[PositiveFloat, PositiveFloat] = (3 / 4, 4 / 3)  # width to height of that part, least and most
    colour: Annotated[float, Meta(ge=0, lt=1)] = 0.0  # by how much brightness, contrast and saturation vary in training
    augment: Literal["host", "device"] = "host"  # where training images are cropped, flipped and recoloured


class Input(Section, frozen=True):
    """How the dataset is read. Only `shuffle_window` can change a result, and only it is in the identity."""

    # Row groups that are shuffled together: `all` is a permutation of all images, a number also suits remote datasets.
    shuffle_window: Positive | Literal["all"] = "all"
    cache_dir: str | None = None  # a local folder that caches a remote dataset for all processes of a node
    cache_bytes: Positive = 100 * 2**30  # how large it may become
    read_threads: Positive = 8  # that read from a remote dataset
    threads: Positive | Auto = "auto"  # that decode, crop and copy; `auto`: the task's cores, at most 8


class Model(Section, frozen=True):
    """A model of the registry by its name, and the options of its builder."""

    name: str
    options: dict[str, bool | int | float | str] = {}


class SGD(Section, frozen=True, tag_field="name", tag="sgd"):
    """Stochastic gradient descent with (Nesterov) momentum."""

    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    nesterov: bool = False


class Adam(Section, frozen=True, tag_field="name", tag="adam"):
    """Kingma and Ba, 2015."""

    beta_1: Fraction = 0.9
    beta_2: Fraction = 0.999
    epsilon: PositiveFloat = 1e-7


class AdamW(Section, frozen=True, tag_field="name", tag="adamw"):
    """Loshchilov and Hutter, 2019: weight decay is decoupled from the gradient."""

    beta_1: Fraction = 0.9
    beta_2: Fraction = 0.999
    epsilon: PositiveFloat = 1e-7


class LearningRate(Section, frozen=True):
    """Linear warm-up from 0 to `peak`, then `decay` from `decay_start` (the end of the warm-up) to the end."""

    peak: PositiveFloat
    warmup: Length = 0
    decay: Literal["constant", "linear", "cosine", "step", "exponential"] = "constant"
    decay_start: Length | None = None
    milestones: tuple[Length, ...] = ()  # of `step`: the rate is multiplied by `factor` at each
    factor: PositiveFloat = 0.1  # of `step`: at each milestone; of `exponential`: over the whole decay


class Training(Section, frozen=True):
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


class Iterative(Section, frozen=True):
    """Rounds of pruning: each keeps a share of what the round before it has left, and ranks its trained weights."""

    keep: Annotated[float, Meta(gt=0, lt=1)]
    rounds: Annotated[int, Meta(ge=1, le=1000)]  # each is a level, which plans and reports list


class Masks(Section, frozen=True, omit_defaults=True):  # a child would refuse the empty `densities`
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


class Tickets(Section, frozen=True):
    """What is trained from each mask at each point of the trellis."""

    # Weights of the reset step; or the final weights, with the learning rates from the reset step on, or the last rate.
    start: Literal["weight_rewinding", "learning_rate_rewinding", "fine_tuning"] = "weight_rewinding"
    schedule: Literal["continue", "restart"] = "continue"  # learning rate and data order, from the reset step or from 0
    optimizer_state: Literal["fresh", "rewind"] = "fresh"  # `rewind`: as the dense run had it with these weights
    controls: tuple[str, ...] = ()  # names from lottery.tickets.controls
    seeds: Annotated[tuple[Seed, ...], Meta(min_length=1)] = (0,)


class Transfer(Section, frozen=True):
    """The ticket of another run directory, whose mask and first weights this experiment's ticket has.

    `run` and `ticket` say where it lies, and are not in the identity; `source`, a hash of its content, is.
    """

    run: str  # URI of the run directory, or of a replicate's
    ticket: str  # its name
    source: Annotated[str, Meta(pattern="^[0-9a-f]{16}$", description="16 hex digits, as `transfer` writes them")]
    classifier: Literal["kept", "new"] = "kept"  # `new`: not pruned, with new weights, for other classes


class Verdict(Section, frozen=True):
    """When a ticket matches the dense network. Nothing here is in the identity, since no result depends on it."""

    margin: PositiveFloat = 0.5  # points of accuracy (percent) that a ticket may be worse
    level: Annotated[float, Meta(gt=0, lt=0.5)] = 0.05  # the largest chance of a false verdict in an experiment


class Gang(Section, frozen=True):
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
