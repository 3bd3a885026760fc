"""The pictures of an analysis, as PNG files: means over replicates and pairs."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from lottery.analysis.rows import AgreementRow, BarrierRow, DistanceRow, LayerRow, LineRow, OverlapRow
from lottery.analysis.text import groups, network_label, short
from lottery.protocol import NO_STATISTICS

_STABLE = 0.02  # below this barrier Frankle et al. (2020) call a network stable
_LEAST_DENSITY = 1e-4  # the end of the colours: a kernel may have none


def barrier_picture(name: str, rows: Sequence[BarrierRow]) -> bytes:
    """The error barrier against the reset point, a line for each network, a panel for each kind of statistics."""
    panels = groups(rows, lambda row: row.statistics)
    figure, axes = _figure(len(panels))
    for panel, (statistics, some) in zip(axes, panels.items(), strict=True):
        resets = dict(sorted({row.step: row.reset for row in rows}.items()))
        for label, colour, of_network in _networks(some):
            at = groups(of_network, lambda row: row.step)
            places = [place for place, step in enumerate(resets) if step in at]
            means = [100 * fmean(row.barrier for row in at[step]) for step in resets if step in at]
            panel.plot(places, means, "o-", color=colour, markersize=4, linewidth=1.2, label=label)
        panel.axhline(100 * _STABLE, color="black", linestyle=":", linewidth=1, label="stable: below 2 points")
        panel.set_xticks(range(len(resets)), list(resets.values()))
        panel.set_xlabel("point of training from which orders of samples differ")
        panel.set_title(f"batch-norm statistics {statistics}" if len(panels) > 1 else "")
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("error barrier, points of top-1 error")
    axes[0].legend(title="weights kept")
    return _png(figure, f"{name}: error barrier between two orders of samples")


def line_picture(name: str, rows: Sequence[LineRow]) -> bytes:
    """The error along the line, a panel for each reset point, a line for each network.

    Statistics of batch norm are recomputed if they were recomputed at all.
    """
    statistics = rows[-1].statistics
    shown = [row for row in rows if row.statistics == statistics]
    panels = groups(sorted(shown, key=lambda row: row.step), lambda row: row.reset)
    figure, axes = _figure(len(panels), width=3.2)
    for panel, (reset, some) in zip(axes, panels.items(), strict=True):
        for label, colour, of_network in _networks(some):
            at = groups(of_network, lambda row: row.position)
            means = [100 * fmean(row.error for row in each) for each in at.values()]
            panel.plot(list(at), means, color=colour, linewidth=1.4, label=label)
        panel.set_title(f"from {reset} on")
        panel.set_xlabel("place on the line")
        panel.grid(alpha=0.3)
    axes[0].set_ylabel(f"top-1 error on {rows[0].images:,} images, %")
    axes[0].legend(title="weights kept")
    of_statistics = f" (batch-norm statistics {statistics})" if statistics != NO_STATISTICS else ""
    return _png(figure, f"{name}: error between two orders of samples{of_statistics}")


def overlap_picture(name: str, rows: Sequence[OverlapRow]) -> bytes:
    """The share of weights that two masks both keep, against density, and what chance gives within each kernel."""
    figure, (axes,) = _figure(1)
    whole = [row for row in rows if not row.kernel and row.chance == "kernel"]
    for index, (kind, some) in enumerate(groups(whole, lambda row: (row.kind, row.other_run)).items()):
        label = f"{kind[0]} ({kind[1]})" if kind[0] == "run" else kind[0]
        colour, chance = f"C{index}", {"linestyle": ":", "label": f"{label}, by chance"}
        _against_density(
            axes, ((row.one_density, row.both_kept / row.one_kept) for row in some), color=colour, label=label
        )
        _against_density(axes, ((row.one_density, row.expected / row.one_kept) for row in some), color=colour, **chance)
    _density_axis(axes, (row.one_density for row in whole))
    axes.set_ylabel("kept by both, % of the first mask's weights")
    axes.legend(title="masks differ in")
    return _png(figure, f"{name}: overlap of masks")


def layer_picture(name: str, rows: Sequence[LayerRow]) -> bytes:
    """The density of each kernel at each level, as colours."""
    kernels = list(dict.fromkeys(row.kernel for row in rows))
    levels = dict(sorted({row.level: row.level_density for row in rows}.items()))
    at = groups(rows, lambda row: (row.kernel, row.level))
    values = np.array([[fmean(row.density for row in at[kernel, level]) for level in levels] for kernel in kernels])
    figure, (axes,) = _figure(1, width=3 + 0.45 * len(levels), height=1.5 + 0.25 * len(kernels))
    least = max(_LEAST_DENSITY, min(levels.values()) / 10)
    image = axes.imshow(np.maximum(values, least), norm=LogNorm(least, 1), cmap="viridis", aspect="auto")
    axes.set_yticks(range(len(kernels)), [short(kernel) for kernel in kernels], fontsize=8)
    axes.set_xticks(
        range(len(levels)), [f"{100 * density:.3g}" for density in levels.values()], fontsize=8, rotation=90
    )
    axes.set_xlabel("density of the mask, %")
    for row, column in np.argwhere(values == 0):
        axes.text(column, row, "0", ha="center", va="center", color="white", fontsize=8)
    figure.colorbar(image, label="density of the kernel", format="%g", ticks=LogLocator(subs=(1, 3)))
    return _png(figure, f"{name}: what masks leave of each kernel")


def distance_picture(name: str, rows: Sequence[DistanceRow]) -> bytes:
    """The distance moved against density, a line for each reset point; the dense run's as dashes."""
    figure, (axes,) = _figure(1)
    whole = sorted((row for row in rows if not row.kernel and row.relative is not None), key=lambda row: row.step)
    by_reset = groups(whole, lambda row: row.reset)
    for (reset, some), colour in zip(by_reset.items(), _colours(len(by_reset)), strict=True):
        tickets = ((row.level_density, row.relative or 0) for row in some if row.network == "ticket")
        _against_density(axes, tickets, color=colour, label=f"tickets from {reset}")
        for row in some:
            if row.network == "dense":
                axes.axhline(100 * (row.relative or 0), color=colour, linestyle="--", linewidth=0.8)
    _density_axis(axes, (row.level_density for row in whole if row.network == "ticket"))
    axes.plot([], [], color="gray", linestyle="--", linewidth=0.8, label="the dense run from there on")
    axes.set_ylabel("distance moved, % of the norm of the start")
    axes.legend()
    return _png(figure, f"{name}: distance moved in training, over kept weights")


def agreement_picture(name: str, rows: Sequence[AgreementRow]) -> bytes:
    """The churn of predictions against density, by what two networks differ in, and what chance gives."""
    figure, (axes,) = _figure(1)
    for index, (kind, some) in enumerate(groups(rows, lambda row: row.kind).items()):
        label = "ticket, dense run" if kind == "dense" else kind
        colour, chance = f"C{index}", {"linestyle": ":", "label": f"{label}, by chance"}
        _against_density(axes, ((row.level_density, row.churn) for row in some), color=colour, label=label)
        _against_density(axes, ((row.level_density, row.expected_churn) for row in some), color=colour, **chance)
    _density_axis(axes, (row.level_density for row in rows))
    axes.set_ylabel(f"predicted differently, % of {rows[0].images:,} images")
    axes.legend(title="networks differ in")
    return _png(figure, f"{name}: churn of predictions")


def _networks(rows: Sequence[Any]) -> list[tuple[str, Any, list[Any]]]:
    """The rows of each network with its label and colour, densest first."""
    found = groups(sorted(rows, key=lambda row: (row.network != "continue", -row.level_density)), network_label)
    tickets = iter(_colours(sum(label != "continued" for label in found)))
    return [(label, "firebrick" if label == "continued" else next(tickets), some) for label, some in found.items()]


def _against_density(axes: Axes, points: Iterable[tuple[float, float]], **style: Any) -> None:
    """Draws 100 x the mean value at each density."""
    at = groups(sorted(points, reverse=True), lambda point: point[0])
    means = [100 * fmean(value for _, value in some) for some in at.values()]
    axes.plot([100 * density for density in at], means, marker="o", markersize=4, linewidth=1.2, **style)


def _density_axis(axes: Axes, densities: Iterable[float]) -> None:
    """A log scale that falls to the right, labelled with those densities that have room."""
    labelled: list[float] = []
    for density in sorted(set(densities), reverse=True):
        if not labelled or density <= labelled[-1] / 1.13:
            labelled.append(density)
    axes.set_xscale("log")
    axes.set_xticks([100 * density for density in labelled], [f"{100 * density:.3g}" for density in labelled])
    axes.minorticks_off()
    axes.xaxis.set_inverted(True)
    axes.set_xlabel("weights kept, % of prunable weights (log scale)")
    axes.grid(alpha=0.3)


def _colours(count: int) -> list[Any]:
    return [matplotlib.colormaps["viridis"](0.9 * index / max(count - 1, 1)) for index in range(count)]


def _figure(panels: int, width: float = 7.0, height: float = 4.6) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width * panels, height), layout="constrained")  # not pyplot, which looks for a screen
    return figure, list(figure.subplots(1, panels, sharey=True, squeeze=False)[0])


def _png(figure: Figure, title: str) -> bytes:
    figure.suptitle(title)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    return image.getvalue()
