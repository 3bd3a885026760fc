"""A finding as a picture: accuracies against density, and the differences with their intervals."""

from __future__ import annotations

import io
from itertools import cycle

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lottery.statistics.seeds import estimate
from science.findings import Comparison, Finding

_MARKERS = "os^Dvx"


def picture(finding: Finding) -> bytes:
    """A PNG, 1,000 pixels wide."""
    figure = Figure(figsize=(10, 4.2), layout="constrained", dpi=100)
    if finding.lines:
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
        _accuracies(left, finding)
    else:
        right = figure.subplots()
    _differences(right, finding.comparisons)
    figure.suptitle(f"{finding.name}: {finding.verdict}")
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


def _accuracies(axes: Axes, finding: Finding) -> None:
    colours = matplotlib.colormaps["viridis"]
    drawn = [line for line in finding.lines if line.points and line.label != "dense"]
    for place, (line, marker) in enumerate(zip(drawn, cycle(_MARKERS), strict=False)):
        found = [(density, each) for density, values in line.points if (each := estimate(values)) is not None]
        means = np.array([each.mean for _, each in found])
        ends = np.array([each.interval or (each.mean, each.mean) for _, each in found])
        axes.errorbar(
            [density for density, _ in found],
            means,
            np.abs(ends.T - means),
            color=colours(0.9 * place / max(len(drawn) - 1, 1)),
            marker=marker,
            markersize=4,
            linewidth=1.2,
            capsize=2,
            label=line.label,
        )
    for line in finding.lines:
        if line.label == "dense" and (dense := estimate(line.points[0][1])) is not None:
            axes.axhline(dense.mean, color="black", linewidth=1, label="dense")
            axes.axhspan(*(dense.interval or (dense.mean, dense.mean)), color="black", alpha=0.12, linewidth=0)
    densities = sorted({density for line in finding.lines for density, _ in line.points}, reverse=True)
    axes.set_xscale("log")
    axes.set_xticks(named := apart(densities), [f"{100 * density:.3g}" for density in named])
    axes.minorticks_off()
    axes.invert_xaxis()
    axes.set_xlabel("weights kept (%)")
    axes.set_ylabel("top-1 (%), mean and 95% interval")
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 100.5))  # an interval over few replicates may go beyond
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def apart(densities: list[float]) -> list[float]:
    """Of falling densities, those that have room for their names on a logarithmic axis."""
    room = np.log(densities[0] / densities[-1]) / 12
    named: list[float] = []
    for density in densities:
        if not named or np.log(named[-1] / density) >= room:
            named.append(density)
    return named


def _differences(axes: Axes, comparisons: list[Comparison]) -> None:
    """A row each: the differences of the replicates, their mean and interval; filled if it is shown."""
    rows = [(each, each.mean) for each in comparisons if each.mean is not None]
    for place, (each, mean) in enumerate(rows):
        values = [value for value in each.differences if value is not None]
        axes.plot(values, [place] * len(values), "|", color="gray", markersize=7)
        if each.low is not None and each.high is not None:
            axes.plot([each.low, each.high], [place, place], color="tab:blue", linewidth=2)
        face = "tab:blue" if each.shown else "white"
        axes.plot(mean, place, "o", color="tab:blue", markerfacecolor=face)
        if each.margin:
            axes.plot([-each.margin] * 2, [place - 0.35, place + 0.35], ":", color="firebrick")
    axes.axvline(0, color="black", linewidth=0.8)
    names = [each.what + ("" if each.density is None else f" at {100 * each.density:.3g}%") for each, _ in rows]
    axes.set_yticks(range(len(rows)), names, fontsize="small")
    axes.invert_yaxis()
    units = ", ".join(dict.fromkeys(each.unit for each, _ in rows))
    axes.set_xlabel(f"difference ({units}); filled: shown; bars: 95%", fontsize="small")
    axes.grid(alpha=0.3, axis="x")
