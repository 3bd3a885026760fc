"""The chart of accuracy against density: a line per reset point and control, and the level of the dense network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import binomtest

from lottery.report.charts.style import (
    CHOSEN,
    DENSE,
    OPACITY,
    PUBLISHED,
    Spec,
    chart,
    data,
    quantitative,
    series_scales,
    spread,
    tooltip,
)
from lottery.report.levels import by_seed
from lottery.run.results import DenseResult, TicketResult
from lottery.statistics.seeds import Estimate, estimate
from lottery.tickets.controls import is_for_all_levels
from lottery.tickets.tickets import NO_CONTROL

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Line:
    """Results of others: (density, accuracy) points, or if there are none the level of a dense network; fractions."""

    name: str
    points: tuple[tuple[float, float], ...]
    level: float | None = None


_TOOLTIP = tooltip(
    ("series", "line", ""),
    ("percent", "weights kept, %", ".4~g"),
    ("top1", "top-1, %", ".2f"),
    ("low", "interval from", ".2f"),
    ("high", "interval to", ".2f"),
    ("trainings", "trainings", "d"),
)


def accuracy_chart(
    dense: Sequence[DenseResult],
    results: Mapping[int, Sequence[TicketResult]],
    points: Mapping[int, str],
    published: Sequence[Line] = (),
) -> Spec | None:
    """The chart; None if no ticket has been trained to its end.

    Args:
        dense: of each replicate.
        results: by replicate.
        points: the reset points' names by step.
        published: results of others.
    """
    rows = accuracy_rows(results, points)
    if not rows:
        return None
    resets = [reset_name(name) for _, name in sorted(points.items())]
    resets = [name for name in resets if any(row["series"] == name for row in rows)]
    controls = list(dict.fromkeys(row["series"] for row in rows if row["series"] not in resets))
    level = dense_level(dense)
    scales = series_scales(resets, controls, [DENSE] if level else [])
    ends = [min(row["percent"] for row in rows), max(row["percent"] for row in rows)]
    y_title = f"top-1 accuracy, %{_images(dense)}"
    x = quantitative(
        "percent",
        "weights kept, % of those that can be pruned (log scale)",
        scale={"type": "log", "reverse": True, "nice": False, "padding": 12},
        axis={"values": spread([row["percent"] for row in rows]), "format": ".4~g"},
    )
    layers = [
        *(_dense_layers(level, ends, y_title) if level else []),
        *_published_layers(published, ends, y_title),
        *_line_layers(rows, x, y_title, scales),
    ]
    if level:
        layers.append(_dense_line(level, ends, x, y_title, scales))
    return chart("Top-1 accuracy against the share of weights kept, a line per reset point and control", layers, 380)


def accuracy_rows(results: Mapping[int, Sequence[TicketResult]], points: Mapping[int, str]) -> Rows:
    """A row per line and density: the mean accuracy in percent, and its interval if there are several trainings.

    The interval is over replicates, each the mean of its tickets: those share a dense run. Of one it is over these.
    A line has no point where one of its trainings diverged or failed: a mean of the rest would flatter it.
    """
    pooled = [(seed, result) for seed, each in results.items() for result in each]
    densities = sorted({result.density for _, result in pooled if not is_for_all_levels(result.control)}, reverse=True)
    found: dict[tuple[str, float], list[tuple[int, TicketResult]]] = defaultdict(list)
    for seed, result in pooled:
        name = reset_name(points[result.step]) if result.control == NO_CONTROL else control_name(result.control)
        for density in densities if is_for_all_levels(result.control) else [result.density]:
            found[name, density].append((seed, result))
    rows = []
    for (name, density), members in found.items():
        one = len(results) == 1
        known = estimate([result.top1 for _, result in members] if one else list(by_seed(members).values()))
        if known is not None:
            row = {"series": name, "percent": 100 * density, **percentages(known)}
            rows.append({**row, "trainings": len(members)})
    return sorted(rows, key=lambda row: (row["series"], -row["percent"]))


def dense_level(dense: Sequence[DenseResult]) -> Estimate | None:
    """The dense network's accuracy, a fraction, with its interval over seeds; of one seed, over images (Wilson's)."""
    found = estimate([result.top1 for result in dense])
    if found is None or found.count > 1:
        return found
    images = dense[0].evaluated
    interval = binomtest(round(found.mean * images), images).proportion_ci(method="wilson")
    return Estimate(1, found.mean, None, float(interval.low), float(interval.high))


def reset_name(point: str) -> str:
    """What the line of a reset point is called."""
    return f"reset to {point}"


def control_name(control: str) -> str:
    """What the line of a control is called."""
    return f"control: {control}"


def percentages(known: Estimate) -> dict[str, Any]:
    """The fields of a row that has this accuracy."""
    interval = {} if known.low is None or known.high is None else {"low": 100 * known.low, "high": 100 * known.high}
    return {"top1": 100 * known.mean, **interval, "trainings": known.count}


def _images(dense: Sequence[DenseResult]) -> str:
    return f", on {dense[0].evaluated:,} images" if dense else ""


def _line_layers(rows: Rows, x: Spec, y_title: str, scales: Mapping[str, Spec]) -> list[Spec]:
    y = quantitative("top1", y_title)
    colour = {"color": scales["color"], "opacity": OPACITY}
    lines = {
        "data": data(rows),
        "params": [CHOSEN],
        "mark": {"type": "line"},
        "encoding": {"x": x, "y": y, "strokeDash": scales["strokeDash"], **colour},
    }
    dots = {
        "data": data(rows),
        "mark": {"type": "point", "filled": True, "size": 45},
        "encoding": {"x": x, "y": y, "shape": scales["shape"], "tooltip": _TOOLTIP, **colour},
    }
    bars = {
        "data": data([row for row in rows if "low" in row]),
        "mark": {"type": "rule", "strokeWidth": 1},
        "encoding": {"x": x, "y": quantitative("low", y_title), "y2": {"field": "high"}, **colour},
    }
    return [lines, *([bars] if bars["data"]["values"] else []), dots]


def _dense_layers(level: Estimate, ends: Sequence[float], y_title: str) -> list[Spec]:
    """The band around the dense network's accuracy."""
    if level.low is None or level.high is None:
        return []
    row = {"from": ends[0], "to": ends[1], "low": 100 * level.low, "high": 100 * level.high}
    encoding = {
        "x": {"field": "from", "type": "quantitative"},
        "x2": {"field": "to"},
        "y": quantitative("low", y_title),
        "y2": {"field": "high"},
    }
    mark = {"type": "rect", "color": "currentColor", "opacity": 0.12, "clip": True}
    return [{"data": data([row]), "mark": mark, "encoding": encoding}]


def _dense_line(level: Estimate, ends: Sequence[float], x: Spec, y_title: str, scales: Mapping[str, Spec]) -> Spec:
    rows = [{"series": DENSE, "percent": end, **percentages(level)} for end in ends]
    encoding = {
        "x": x,
        "y": quantitative("top1", y_title),
        "color": scales["color"],
        "strokeDash": scales["strokeDash"],
    }
    return {
        "data": data(rows),
        "mark": {"type": "line", "strokeWidth": 1.2},
        "encoding": {**encoding, "tooltip": _TOOLTIP},
    }


def _published_layers(lines: Sequence[Line], ends: Sequence[float], y_title: str) -> list[Spec]:
    """Others' results, in grey: as points and lines, each named at its sparsest point."""
    rows = [
        {"line": line.name, "percent": percent, "top1": 100 * top1, "series": f"published: {line.name}"}
        for line in lines
        for percent, top1 in (
            [(100 * density, top1) for density, top1 in sorted(line.points, reverse=True)]
            or [(end, line.level or 0.0) for end in reversed(ends)]
        )
        if 0.5 * ends[0] <= percent <= 2 * ends[1]
    ]
    if not rows:
        return []
    last = {row["line"]: row for row in rows}
    encoding = {
        "x": {"field": "percent", "type": "quantitative"},
        "y": quantitative("top1", y_title),
        "detail": {"field": "line", "type": "nominal"},
    }
    drawn = {
        "data": data(rows),
        "mark": {"type": "line", "color": PUBLISHED, "strokeWidth": 1.2, "point": {"color": PUBLISHED, "size": 25}},
        "encoding": {**encoding, "tooltip": _TOOLTIP[:3]},
    }
    names = {
        "data": data(list(last.values())),
        "mark": {"type": "text", "color": PUBLISHED, "align": "right", "dy": -6, "fontSize": 9},
        "encoding": {**encoding, "text": {"field": "line", "type": "nominal"}},
    }
    return [drawn, names]
