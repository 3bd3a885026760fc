"""The picture: accuracy against density."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lottery.report.levels import by_seed
from lottery.run.results import DenseResult, TicketResult
from lottery.statistics.seeds import Estimate, estimate
from lottery.tickets.controls import is_for_all_levels
from lottery.tickets.tickets import NO_CONTROL

# Of the controls' lines: colours that no reset point has.
_STYLES = (("firebrick", "--"), ("darkorange", ":"), ("deeppink", "-."), ("saddlebrown", "--"), ("gray", ":"))

Members = list[tuple[int, TicketResult]]  # with the seed of each


def accuracy_plot(
    name: str,
    dense: Mapping[int, DenseResult],
    results: Mapping[int, Sequence[TicketResult]],
    points: Mapping[int, str],
    behind: Callable[[Axes], None] | None = None,
) -> bytes:
    """A PNG: top-1 accuracy against density, a line per reset point, the dense network and the controls.

    Lines are means over seeds, with bars that are their 95% t intervals; the dense network's is a band.

    Args:
        name: of the experiment.
        dense, results: by seed.
        points: the reset points' names by step.
        behind: draws what lies behind them.
    """
    tickets: dict[int, Members] = defaultdict(list)
    controls: dict[str, Members] = defaultdict(list)
    for seed, result in ((seed, result) for seed, each in results.items() for result in each):
        (tickets[result.step] if result.control == NO_CONTROL else controls[result.control]).append((seed, result))
    figure = Figure(figsize=(9, 5.5), layout="constrained")  # not pyplot, which looks for a screen
    axes = figure.subplots()
    _draw_tickets(axes, tickets, points)
    _draw_controls(axes, controls)
    _draw_dense(axes, dense)
    if behind is not None:
        behind(axes)
    densities = {pair[1].density for pairs in tickets.values() for pair in pairs}
    densities |= {pair[1].density for name, pairs in controls.items() if not is_for_all_levels(name) for pair in pairs}
    _label(axes, name, dense, sorted(densities, reverse=True))
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    return image.getvalue()


def _draw_tickets(axes: Axes, tickets: Mapping[int, Members], points: Mapping[int, str]) -> None:
    colours = matplotlib.colormaps["viridis"]
    for index, (step, members) in enumerate(sorted(tickets.items())):
        colour = colours(0.9 * index / max(len(tickets) - 1, 1))
        _line(axes, members, color=colour, marker="o", label=f"reset to {points[step]}")


def _draw_controls(axes: Axes, controls: Mapping[str, Members]) -> None:
    for (control, members), (colour, style) in zip(sorted(controls.items()), cycle(_STYLES), strict=False):
        drawn: dict[str, Any] = {"color": colour, "linestyle": style, "label": f"control: {control}"}
        if not is_for_all_levels(control):
            _line(axes, members, marker="x", **drawn)
        elif (found := _estimate(members)) is not None:
            axes.axhline(found.mean, linewidth=1.2, **drawn)


def _draw_dense(axes: Axes, dense: Mapping[int, DenseResult]) -> None:
    found = estimate([result.top1 for result in dense.values()])
    if found is None:
        return
    axes.axhline(found.mean, color="black", linewidth=1, label="dense network")
    if found.interval is not None:
        axes.axhspan(*found.interval, color="black", alpha=0.12, linewidth=0)


def _line(axes: Axes, members: Members, **style: Any) -> None:
    by_density: dict[float, Members] = defaultdict(list)
    for seed, result in members:
        by_density[result.density].append((seed, result))
    found = {density: each for density, pairs in by_density.items() if (each := _estimate(pairs)) is not None}
    densities = sorted(found)
    axes.plot(densities, [found[density].mean for density in densities], markersize=4, linewidth=1.2, **style)
    for density, each in found.items():
        if each.interval is not None:
            axes.vlines(density, *each.interval, color=style["color"], linewidth=0.8)


def _estimate(members: Members) -> Estimate | None:
    return estimate(list(by_seed(members).values()))


def _label(axes: Axes, name: str, dense: Mapping[int, DenseResult], densities: Sequence[float]) -> None:
    images, seeds = next(iter(dense.values())).evaluated, len(dense)
    axes.set_xscale("log")
    axes.set_xticks(_spread(densities), [f"{100 * density:g}" for density in _spread(densities)])
    axes.minorticks_off()
    axes.invert_xaxis()
    axes.set_xlabel("weights kept (% of prunable weights, log scale)")
    across = f", mean of {seeds} seeds with 95% intervals" if seeds > 1 else ""
    axes.set_ylabel(f"top-1 accuracy on {images:,} images{across}")
    axes.set_title(f"{name}: accuracy of tickets against density")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", fontsize="small" if len(axes.get_legend_handles_labels()[0]) > 10 else None)


def _spread(densities: Sequence[float]) -> list[float]:
    """The densities that can be labelled on a log scale without running into each other, falling."""
    labelled: list[float] = []
    for density in densities:
        if not labelled or density <= labelled[-1] / 1.13:
            labelled.append(density)
    return labelled
