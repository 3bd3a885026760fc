"""The chart of the grid, level x reset point: how far each ticket is from the dense network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from lottery.experiment.config import Experiment
from lottery.report.charts.style import Spec, chart, data, tooltip
from lottery.run.results import DenseResult, TicketResult
from lottery.tickets.tickets import NO_CONTROL

_CELL = 24  # pixels of height
# What stands in a cell without a number, most important first.
_SIGNS = {"failed": "failed", "diverged": "diverged"}
_WAITING = "·"


def grid_chart(
    experiment: Experiment,
    dense: Mapping[int, DenseResult],
    results: Mapping[int, Sequence[TicketResult]],
    points: Mapping[int, str],
) -> Spec | None:
    """The chart; None if no dense run has an accuracy.

    Args:
        dense: by replicate.
        results: by replicate; each is compared with the dense run of its own replicate.
        points: the reset points' names by step.
    """
    rows = grid_rows(experiment, dense, results, points)
    if not any("points" in row for row in rows):
        return None
    most = max(abs(row["points"]) for row in rows if "points" in row) or 1.0
    position = {
        "x": {"field": "reset", "type": "ordinal", "sort": None, "title": "reset to", "axis": {"labelAngle": 0}},
        "y": {"field": "kept", "type": "ordinal", "sort": None, "title": "weights kept"},
    }
    shown = tooltip(
        ("kept", "weights kept", ""),
        ("reset", "reset to", ""),
        ("points", "points above dense", "+.2f"),
        ("trained", "trained", ""),
    )
    colour = {
        "field": "points",
        "type": "quantitative",
        "title": "points above the dense network",
        "scale": {"scheme": "redblue", "domain": [-most, most]},
        "legend": {"direction": "horizontal", "gradientLength": 200, "title": "points above the dense network"},
    }
    cells = {
        "data": data([row for row in rows if "points" in row]),
        "mark": {"type": "rect"},
        "encoding": {**position, "color": colour, "tooltip": shown},
    }
    # Dark cells have white numbers; in the others they are black, on a dark page too.
    ink = {"condition": {"test": f"abs(datum.points) > {0.6 * most}", "value": "white"}, "value": "black"}
    numbers = {
        "data": cells["data"],
        "mark": {"type": "text", "fontSize": 10},
        "encoding": {**position, "text": {"field": "points", "type": "quantitative", "format": "+.2f"}, "color": ink},
    }
    signs = {
        "data": data([row for row in rows if "points" not in row]),
        "mark": {"type": "text", "fontSize": 10},
        "encoding": {**position, "text": {"field": "sign", "type": "nominal"}, "tooltip": shown},
    }
    layers = [cells, numbers, *([signs] if signs["data"]["values"] else [])]
    title = "Difference in top-1 accuracy between each ticket and the dense network, by density and reset point"
    return chart(title, layers, _CELL * len(experiment.masks.levels))


def grid_rows(
    experiment: Experiment,
    dense: Mapping[int, DenseResult],
    results: Mapping[int, Sequence[TicketResult]],
    points: Mapping[int, str],
) -> list[dict[str, Any]]:
    """A row per cell: the mean difference in points, or the sign that says why there is none."""
    found: dict[tuple[int, int], list[float]] = defaultdict(list)
    ended: dict[tuple[int, int], list[str]] = defaultdict(list)
    for seed, of_one in results.items():
        level_top1 = dense[seed].top1 if seed in dense else None
        for result in of_one:
            if result.control != NO_CONTROL:
                continue
            ended[result.level, result.step].append(result.status)
            if result.top1 is not None and level_top1 is not None:
                found[result.level, result.step].append(100 * (result.top1 - level_top1))
    asked = len(experiment.replicates) * len(experiment.tickets.seeds)
    rows = []
    for level, density in enumerate(experiment.masks.levels):
        for step, name in sorted(points.items()):
            differences, statuses = found[level, step], ended[level, step]
            row: dict[str, Any] = {
                "kept": f"{100 * density:.4g}%",
                "reset": name,
                "trained": f"{len(statuses)} of {asked}",
            }
            bad = next((sign for status, sign in _SIGNS.items() if status in statuses), None)
            if bad is None and differences:
                row["points"] = sum(differences) / len(differences)
            else:
                row["sign"] = bad or _WAITING
            rows.append(row)
    return rows
