"""Results to tables and plots: what a sweep found."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, TypeVar

import matplotlib
import msgspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lottery.run.origin import Origin
from lottery.run.run_directory import DenseResult, RunDirectory, TicketResult
from lottery.tickets.controls import is_for_all_levels
from lottery.tickets.tickets import NO_CONTROL
from preprocessing.common.errors import InputError

Key = TypeVar("Key", float, int, str)

# Of the controls' lines: colours that no reset point has.
_STYLES = (("firebrick", "--"), ("darkorange", ":"), ("deeppink", "-."), ("saddlebrown", "--"), ("gray", ":"))

SCHEMA = pa.schema(
    [
        ("level", pa.int32()),
        ("density", pa.float64()),
        ("kept", pa.int64()),
        ("prunable", pa.int64()),
        ("step", pa.int64()),
        ("epoch", pa.float64()),
        ("control", pa.string()),
        ("seed", pa.int64()),
        ("status", pa.string()),
        ("top1", pa.float64()),
        ("top5", pa.float64()),
        ("loss", pa.float64()),
        ("steps", pa.int64()),
        ("seconds", pa.float64()),
        ("executor", pa.string()),
        ("task", pa.int32()),
        ("note", pa.string()),
    ]
)


@dataclass(frozen=True)
class Level:
    """What came of one mask; accuracies are means over seeds and replicates, None if nothing was trained to its end."""

    level: int
    density: float
    kept: int
    first: float | None  # accuracy of the ticket that is reset to step 0
    step: int | None  # the reset point of the best ticket
    top1: float | None  # of the best ticket
    controls: dict[str, float]  # mean accuracy of each kind of control
    matches: bool  # whether the best ticket is as good as the dense network


def levels(dense: DenseResult, results: Iterable[TicketResult]) -> list[Level]:
    """One row a mask, densest first.

    A ticket *matches* if its accuracy is at most one standard error of the dense accuracy below it: a smaller gap
    cannot be told from chance on an evaluation split of this size.
    """
    by_level: dict[int, list[TicketResult]] = defaultdict(list)
    of_all: list[TicketResult] = []
    for result in results:
        (of_all if is_for_all_levels(result.control) else by_level[result.level]).append(result)
    found = []
    for level, members in sorted(by_level.items()):
        means = _mean_top1((result.step, result) for result in members if result.control == NO_CONTROL)
        best = max(means, key=lambda step: (means[step], -step), default=None)
        top1 = None if best is None else means[best]
        controls = _mean_top1(
            (result.control, result) for result in (*members, *of_all) if result.control != NO_CONTROL
        )
        matches = top1 is not None and dense.top1 is not None and top1 >= dense.top1 - standard_error(dense)
        first = min(members, key=lambda result: result.control != NO_CONTROL)  # a control may have another mask
        found.append(Level(level, first.density, first.kept, means.get(0), best, top1, controls, matches))
    return found


def standard_error(dense: DenseResult) -> float:
    """Standard error of the dense accuracy, a fraction: that of a proportion over the images evaluated."""
    top1 = dense.top1 or 0.0
    return math.sqrt(top1 * (1 - top1) / max(dense.evaluated, 1))


def reset_points(origin: Origin) -> dict[int, str]:
    """The steps of the trellis, each with its name in the experiment, such as `400` or `0.5ep`."""
    return {step: str(point) for step, point in zip(origin.timeline.trellis, origin.experiment.trellis, strict=True)}


def table(dense: DenseResult, results: Sequence[TicketResult], points: Mapping[int, str], replicates: int = 1) -> str:
    """The sweep's findings as lines of text, as wide as a terminal; the means if there are several replicates.

    `points` names the reset points by step.
    """
    rows = levels(dense, results)
    controls = sorted({control for row in rows for control in row.controls})
    heads = ["level", "density", "kept", "reset 0", "best reset", "best ticket", "gain", *controls, "dense", "matches"]
    lines = ["  ".join(head.rjust(max(len(head), 7)) for head in heads)]
    for row in rows:
        cells = [
            f"{row.level}",
            f"{row.density:.2%}",
            f"{row.kept:,}",
            _accuracy(row.first),
            "-" if row.step is None else points[row.step],
            _accuracy(row.top1),
            "-" if row.top1 is None or row.first is None else f"{row.top1 - row.first:+.4f}",
            *(_accuracy(row.controls.get(control)) for control in controls),
            _accuracy(dense.top1),
            "yes" if row.matches else "no",
        ]
        lines.append("  ".join(cell.rjust(max(len(head), 7)) for cell, head in zip(cells, heads, strict=True)))
    lines.append(f"top-1 on {dense.evaluated:,} images{_of_seeds(replicates)}; gain: best ticket less reset 0")
    lines.append(f"a ticket matches within one standard error of the dense accuracy, {standard_error(dense):.4f}")
    if dense.note:
        lines.append(f"dense run: {dense.note}")
    return "\n".join([*lines, *remarks(results)])


def remarks(results: Iterable[TicketResult]) -> list[str]:
    """What else there is to know, a line each: by level the notes on tickets that are done, such as layers without
    weights, and how many diverged."""
    found: dict[str, set[int]] = defaultdict(set)
    diverged: list[int] = []
    for result in results:
        if result.status == "done" and result.note:
            found[result.note].add(result.level)
        elif result.status == "diverged":
            diverged.append(result.level)
    lines = [f"{_levels(where)}: {note}" for note, where in sorted(found.items(), key=lambda item: min(item[1]))]
    if diverged:
        lines.append(f"{_levels(set(diverged))}: {len(diverged)} diverged; results.parquet gives the step of each")
    return lines


def _levels(numbers: set[int]) -> str:
    return f"level{'s' if len(numbers) > 1 else ''} {', '.join(map(str, sorted(numbers)))}"


def publish(run: RunDirectory) -> dict[int, list[TicketResult]]:
    """Writes results.parquet, prints the table and its place; returns the results by seed.

    Of several seeds, the table has the mean over those that are there.

    Raises InputError if there is no dense run that is done.
    """
    replicates = {each.origin().experiment.seed: each for each in run.replicates()}
    found = [result for each in replicates.values() if (result := each.dense_result()) is not None]
    if not found:
        raise InputError(f"{run.describe()}: the dense run is not done yet; there is nothing to report")
    dense = mean_dense(found)
    results = {seed: each.results() for seed, each in replicates.items()}
    pooled = [result for each in results.values() for result in each]
    table_of_all = parquet(pooled) if len(replicates) == 1 else parquet_of_replicates(results)
    run.write_report("results.parquet", table_of_all)
    run.write_report("results.csv", csv(table_of_all))
    origin = run.origin()
    points = reset_points(origin)
    print(table(dense, pooled, points, len(found)))
    print(f"results: {run.describe('results.parquet')}", flush=True)
    return results


def mean_dense(results: Sequence[DenseResult]) -> DenseResult:
    """The dense runs of several seeds as one: mean scores, None if one has none; time and notes of all of them."""
    first = results[0]
    if len(results) == 1:
        return first
    notes = "; ".join(dict.fromkeys(result.note for result in results if result.note))
    scores = {name: _mean([getattr(result, name) for result in results]) for name in ("top1", "top5", "loss")}
    return msgspec.structs.replace(first, note=notes, seconds=sum(result.seconds for result in results), **scores)


def parquet(results: Sequence[TicketResult]) -> bytes:
    """`results.parquet`: a row per ticket and control, columns as in SCHEMA."""
    return _parquet([msgspec.structs.asdict(result) for result in results], SCHEMA)


def parquet_of_replicates(results: Mapping[int, Sequence[TicketResult]]) -> bytes:
    """`results.parquet` of several seeds, with the seed of its replicate as another column, `replicate`, in front.

    A ticket's own `seed` chooses its order of images within its replicate.
    """
    rows = [
        {"replicate": replicate, **msgspec.structs.asdict(result)}
        for replicate, of_one in results.items()
        for result in of_one
    ]
    return _parquet(rows, SCHEMA.insert(0, pa.field("replicate", pa.int64())))


def csv(blob: bytes) -> bytes:
    """`results.csv`: the rows and columns of `results.parquet`; what is not known is empty."""
    sink = io.BytesIO()
    pa_csv.write_csv(pq.read_table(io.BytesIO(blob)), sink)
    return sink.getvalue()


def _parquet(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    return sink.getvalue()


def accuracy_plot(
    name: str, dense: DenseResult, results: Sequence[TicketResult], points: Mapping[int, str], replicates: int = 1
) -> bytes:
    """A PNG: top-1 accuracy against density, a line per reset point, the dense network and the controls.

    `points` names the reset points by step. The lines of several replicates are means, with bars from the worst to the
    best.
    """
    tickets: dict[int, list[TicketResult]] = defaultdict(list)
    controls: dict[str, list[TicketResult]] = defaultdict(list)
    for result in results:
        if result.control == NO_CONTROL:
            tickets[result.step].append(result)
        else:
            controls[result.control].append(result)
    figure = Figure(figsize=(9, 5.5), layout="constrained")  # not pyplot, which looks for a screen
    axes = figure.subplots()
    colours = matplotlib.colormaps["viridis"]
    for index, (step, members) in enumerate(sorted(tickets.items())):
        colour = colours(0.9 * index / max(len(tickets) - 1, 1))
        _line(axes, members, replicates > 1, color=colour, marker="o", label=f"reset to {points[step]}")
    for (control, members), (control_colour, style) in zip(sorted(controls.items()), cycle(_STYLES), strict=False):
        drawn: dict[str, Any] = {"color": control_colour, "linestyle": style, "label": f"control: {control}"}
        if not is_for_all_levels(control):
            _line(axes, members, replicates > 1, marker="x", **drawn)
        elif mean := _mean_top1((control, result) for result in members):
            axes.axhline(mean[control], linewidth=1.2, **drawn)
    if dense.top1 is not None:
        axes.axhline(dense.top1, color="black", linewidth=1, label="dense network")
        error = standard_error(dense)
        axes.axhspan(dense.top1 - error, dense.top1 + error, color="black", alpha=0.12, linewidth=0)
    axes.set_xscale("log")
    drawn_densities = {result.density for result in results if not is_for_all_levels(result.control)}
    densities = sorted(drawn_densities, reverse=True)
    axes.set_xticks(_spread(densities), [f"{100 * density:g}" for density in _spread(densities)])
    axes.minorticks_off()
    axes.invert_xaxis()
    axes.set_xlabel("weights kept (% of prunable weights, log scale)")
    axes.set_ylabel(f"top-1 accuracy on {dense.evaluated:,} images{_of_seeds(replicates)}")
    axes.set_title(f"{name}: accuracy of tickets against density")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    return image.getvalue()


def _mean_top1(pairs: Iterable[tuple[Key, TicketResult]]) -> dict[Key, float]:
    """Mean accuracy by key. A mean over the seeds that survived would flatter, so one that diverged leaves none."""
    found: dict[Key, list[float | None]] = defaultdict(list)
    for key, result in pairs:
        found[key].append(result.top1)
    means = {key: _mean(values) for key, values in found.items()}
    return {key: mean for key, mean in means.items() if mean is not None}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _accuracy(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _line(axes: Axes, members: Sequence[TicketResult], bars: bool, **style: Any) -> None:
    means = sorted(_mean_top1((result.density, result) for result in members).items())
    densities, values = [density for density, _ in means], [top1 for _, top1 in means]
    axes.plot(densities, values, markersize=4, linewidth=1.2, **style)
    if bars:
        ends = [
            [result.top1 for result in members if result.density == density and result.top1 is not None]
            for density in densities
        ]
        axes.vlines(densities, list(map(min, ends)), list(map(max, ends)), color=style["color"], linewidth=0.8)


def _of_seeds(replicates: int) -> str:
    return f", mean of {replicates} seeds" if replicates > 1 else ""


def _spread(densities: Sequence[float]) -> list[float]:
    """The densities that can be labelled on a log scale without running into each other, falling."""
    labelled: list[float] = []
    for density in densities:
        if not labelled or density <= labelled[-1] / 1.13:
            labelled.append(density)
    return labelled
