"""The tables of an analysis as text: means over replicates and pairs. All rows are in the Parquet files."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from statistics import fmean
from typing import TypeVar

from lottery.analysis.rows import AgreementRow, BarrierRow, DistanceRow, LayerRow, OverlapRow
from lottery.protocol import NO_STATISTICS

_WIDTH = 110  # characters of a line

Row = TypeVar("Row")
Key = TypeVar("Key", bound=Hashable)
Trained = TypeVar("Trained", bound=BarrierRow | DistanceRow)


def barrier_table(rows: Sequence[BarrierRow]) -> list[str]:
    """The error barrier of each network by reset point, for each kind of statistics."""
    lines = []
    for statistics, some in groups(rows, lambda row: row.statistics).items():
        first = some[0]
        lines += _paragraph(
            f"Error barrier between two orders of samples, in points of top-1 error on {first.images:,} images, at "
            f"{first.points} places on the line; in brackets that of the loss."
            + (f" Statistics of batch norm are {statistics}." if statistics != NO_STATISTICS else "")
        )
        lines += _grid(some, _barrier)
        left_out = sum(row.loss_barrier is None for row in some)
        if left_out:
            lines += _paragraph(
                f"On {left_out} of {len(some)} lines a loss is not finite; they are left out of the means in brackets."
            )
    return lines


def distance_table(rows: Sequence[DistanceRow]) -> list[str]:
    """The distance moved by each network and reset point."""
    whole = [row for row in rows if not row.kernel and row.relative is not None]
    return [
        *_paragraph("Distance moved in training, as a multiple of the norm at its start, over kept weights."),
        *_grid(whole, lambda some: f"{fmean(row.relative or 0 for row in some):.3f}"),
    ]


def overlap_table(rows: Sequence[OverlapRow]) -> list[str]:
    """The overlap of masks by what they differ in, and level."""
    lines = _paragraph(
        "Weights that two masks both keep, in % of those that the first keeps; and what chance would give if it drew "
        "from all weights alike, or within each kernel. z: standard deviations above the latter, the lowest."
    )
    heads = ["differ in", "level", "densities", "pairs", "both keep", "chance", "in kernels", "z"]
    body = []
    whole = [row for row in rows if not row.kernel]
    for (kind, level, other, run), some in groups(
        whole, lambda row: (row.kind, row.one_level, row.other_level, row.other_run)
    ).items():
        within = [row for row in some if row.chance == "kernel"]
        alike = [row for row in some if row.chance == "network"]
        first, zs = within[0], [row.z for row in within if row.z is not None]
        same = (first.one_level, first.one_density) == (other, first.other_density)
        densities = f"{first.one_density:.2%}" + ("" if same else f", {first.other_density:.2%}")
        body.append(
            [
                f"run ({run})" if kind == "run" else kind,
                f"{level}" if level == other or kind == "run" else f"{level}, {other}",
                densities,
                f"{len(within)}",
                _percent(row.both_kept / row.one_kept for row in within),
                _percent(row.expected / row.one_kept for row in alike),
                _percent(row.expected / row.one_kept for row in within),
                f"{min(zs):.1f}" if zs else "-",
            ]
        )
    return [*lines, *table(heads, body)]


def layer_table(rows: Sequence[LayerRow]) -> list[str]:
    """What masks leave of the network's kernels, by level."""
    lines = _paragraph(
        "What masks leave of each kernel: the sparsest and densest; kernels without weights; inputs and outputs of "
        "kernels without weights. Means over masks."
    )
    heads = [
        "level",
        "density",
        "sparsest kernel",
        "densest kernel",
        "without weights",
        "empty inputs",
        "empty outputs",
    ]
    body = []
    for level, some in groups(rows, lambda row: row.level).items():
        masks = list(groups(some, lambda row: (row.replicate, row.reset, row.order)).values())
        kernels = {
            kernel: fmean(row.density for row in each) for kernel, each in groups(some, lambda row: row.kernel).items()
        }
        low, high = (choose(kernels, key=lambda kernel: kernels[kernel]) for choose in (min, max))
        body.append(
            [
                f"{level}",
                f"{some[0].level_density:.2%}",
                f"{short(low)} {kernels[low]:.2%}",
                f"{short(high)} {kernels[high]:.2%}",
                _count(sum(row.kept == 0 for row in mask) for mask in masks) + f" of {len(kernels)}",
                _count(sum(row.empty_inputs for row in mask) for mask in masks)
                + f" of {sum(row.inputs for row in masks[0]):,}",
                _count(sum(row.empty_outputs for row in mask) for mask in masks)
                + f" of {sum(row.outputs for row in masks[0]):,}",
            ]
        )
    return [*lines, *table(heads, body)]


def agreement_table(rows: Sequence[AgreementRow]) -> list[str]:
    """The churn of predictions by what networks differ in, and level."""
    lines = _paragraph(
        f"Churn: the share of {rows[0].images:,} images for which two networks predict different classes, in %; and "
        "what chance would give two networks of these accuracies."
    )
    heads = ["differ in", "level", "density", "pairs", "top-1", "top-1", "churn", "by chance"]
    body = [
        [
            "ticket, dense run" if kind == "dense" else kind,
            f"{level}",
            f"{some[0].level_density:.2%}",
            f"{len(some)}",
            f"{fmean(row.one_top1 for row in some):.4f}",
            f"{fmean(row.other_top1 for row in some):.4f}",
            _percent(row.churn for row in some),
            _percent(row.expected_churn for row in some),
        ]
        for (kind, level), some in groups(rows, lambda row: (row.kind, row.level)).items()
    ]
    return [*lines, *table(heads, body)]


def groups(rows: Iterable[Row], key: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    """The rows by a key, in the order in which the keys appear."""
    found: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def network_label(row: BarrierRow | DistanceRow) -> str:
    """A network's name in tables and pictures."""
    return {"dense": "dense run", "continue": "continued"}.get(row.network, f"{row.level_density:.2%}")


def short(kernel: str) -> str:
    """A kernel's path without the model's name and its own."""
    return kernel.split("/", 1)[-1].removesuffix("/kernel")


def table(heads: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as aligned lines."""
    widths = [max(map(len, column)) for column in zip(heads, *body, strict=True)]
    return ["  ".join(map(str.rjust, row, widths)) for row in (heads, *body)]


def _barrier(rows: Sequence[BarrierRow]) -> str:
    losses = [row.loss_barrier for row in rows if row.loss_barrier is not None]
    return f"{100 * fmean(row.barrier for row in rows):.2f} ({f'{fmean(losses):.3f}' if losses else '-'})"


def _grid(rows: Sequence[Trained], cell: Callable[[Sequence[Trained]], str]) -> list[str]:
    """A line for each network, a column for each reset point; a cell shows all rows of the two."""
    columns = dict(sorted({row.step: row.reset for row in rows}.items()))
    body = []
    for label, some in groups(rows, network_label).items():
        at = groups(some, lambda row: row.step)
        body.append([label, *(cell(at[step]) if step in at else "-" for step in columns)])
    return table(["weights kept", *(f"reset {name}" for name in columns.values())], body)


def _paragraph(text: str) -> list[str]:
    return ["", *textwrap.wrap(text, _WIDTH)]


def _percent(shares: Iterable[float]) -> str:
    return f"{100 * fmean(shares):.2f}"


def _count(counts: Iterable[int]) -> str:
    """The mean of several counts, without decimals if it is a whole number."""
    return f"{fmean(counts):.1f}".removesuffix(".0")
