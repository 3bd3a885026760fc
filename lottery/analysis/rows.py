"""The rows of analysis/*.parquet. docs/analysis.md says how each number is made."""

from __future__ import annotations

from msgspec import Struct


class OverlapRow(Struct, frozen=True):
    """overlap.parquet: two masks, in one kernel or as a whole."""

    kind: str  # what they differ in: replicate, level, chain or run
    one_run: str
    one_replicate: int
    one_level: int
    one_density: float  # of its level
    one_reset: str  # of a later round of iterative pruning, else empty
    one_order: int | None  # seed of its order of samples, of such a round
    other_run: str
    other_replicate: int
    other_level: int
    other_density: float
    other_reset: str
    other_order: int | None
    kernel: str  # empty: all of them
    chance: str  # draws from the whole `network`, or within each `kernel`
    weights: int
    one_kept: int
    other_kept: int
    both_kept: int
    expected: float  # of both_kept, by chance
    over_chance: float | None  # both_kept / expected
    z: float | None  # (both_kept - expected) / its standard deviation by chance
    jaccard: float | None  # both_kept / kept by at least one
    expected_jaccard: float | None  # the same with `expected`


class LayerRow(Struct, frozen=True):
    """layers.parquet: a kernel and its mask."""

    replicate: int
    level: int
    level_density: float
    reset: str  # of a later round of iterative pruning, else empty
    order: int | None
    kernel: str
    position: int  # in the model's order
    weights: int
    kept: int
    density: float
    inputs: int
    empty_inputs: int  # from which no weight of this kernel is kept
    outputs: int
    empty_outputs: int  # to which no weight of this kernel is kept


class DistanceRow(Struct, frozen=True):
    """distance.parquet: how far a training moved the weights that its mask keeps."""

    replicate: int
    network: str  # ticket, dense (the dense run from the reset step on) or continue
    level: int | None
    level_density: float
    step: int
    reset: str
    order: int
    kernel: str  # empty: all of them
    start: float  # norm of the weights at the start
    moved: float  # norm of the difference
    relative: float | None  # moved / start


class LineRow(Struct, frozen=True):
    """line.parquet: a network on the line between two trainings."""

    replicate: int
    network: str  # ticket or continue
    level: int | None
    level_density: float
    step: int
    reset: str
    one_order: int
    other_order: int
    statistics: str  # of batch norm: interpolated or recomputed; none: the model has no batch norm
    position: float  # 0 is the first training, 1 the other
    error: float
    loss: float | None  # None: not finite
    images: int  # evaluated


class BarrierRow(Struct, frozen=True):
    """barrier.parquet: a line between two trainings."""

    replicate: int
    network: str
    level: int | None
    level_density: float
    step: int
    reset: str
    one_order: int
    other_order: int
    statistics: str
    one_error: float
    other_error: float
    highest_error: float
    barrier: float  # highest_error less the mean of the two ends
    loss_barrier: float | None  # the same of the loss; None: one on the line is not finite
    points: int
    images: int


class AgreementRow(Struct, frozen=True):
    """agreement.parquet: the predictions of two networks."""

    kind: str  # what they differ in: dense, reset, order or replicate
    level: int
    level_density: float
    one_replicate: int
    one_reset: str  # empty: the dense run
    one_order: int | None
    other_replicate: int
    other_reset: str
    other_order: int
    one_top1: float
    other_top1: float
    churn: float  # share of images for which they predict different classes
    expected_churn: float  # the same of two such accuracies by chance
    both_right: float
    both_wrong: float
    images: int
