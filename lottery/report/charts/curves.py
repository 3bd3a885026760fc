"""The charts of training: accuracy and loss against the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lottery.report.charts.style import CHOSEN, OPACITY, Spec, chart, data, quantitative, series_scales, tooltip

_MOST = 1500  # points of a chart that are drawn: more cannot be told apart, and make the page large


@dataclass(frozen=True)
class Curve:
    """One training's evaluations, as rows of metrics.jsonl; curves of several replicates share a name."""

    name: str
    replicate: int
    rows: Sequence[dict[str, Any]]
    kind: str  # dense, ticket or control


def accuracy_curves(curves: Sequence[Curve]) -> Spec | None:
    """Top-1 accuracy against the step; None if nothing was evaluated on the way."""
    return _chart(curves, "top1", "top-1 accuracy, %", 100.0, "Top-1 accuracy against the training step")


def loss_curves(curves: Sequence[Curve]) -> Spec | None:
    """The loss on the evaluation split against the step; None if nothing was evaluated on the way."""
    return _chart(curves, "loss", "loss on the evaluation split", 1.0, "Evaluation loss against the training step")


def training_loss_curves(curves: Sequence[Curve]) -> Spec | None:
    """The loss of the training steps since the evaluation before; None if nothing was evaluated on the way."""
    title = "Mean training loss since the evaluation before, against the training step"
    return _chart(curves, "training_loss", "training loss", 1.0, title)


def _chart(curves: Sequence[Curve], field: str, title: str, factor: float, description: str) -> Spec | None:
    most = max(_MOST // max(len(curves), 1), 20)
    rows = [
        {
            "series": curve.name,
            "replicate": curve.replicate,
            "step": row["step"],
            "epoch": row.get("epoch"),
            "value": round(factor * row[field], 5),
        }
        for curve in curves
        for row in thinned(curve.rows, most)
        if row.get(field) is not None and math.isfinite(row[field])  # JSON has no nan, which a loss may be
    ]
    if len({row["step"] for row in rows}) < 2:
        return None
    kinds = {curve.name: curve.kind for curve in curves}
    names = {kind: [name for name, of in kinds.items() if of == kind] for kind in ("ticket", "control", "dense")}
    scales = series_scales(names["ticket"], names["control"], names["dense"])
    shown = tooltip(
        ("series", "training", ""),
        ("replicate", "seed", "d"),
        ("step", "step", ",d"),
        ("epoch", "epoch", ".2f"),
        ("value", title, ".4~g"),
    )
    encoding = {
        "x": quantitative("step", "step"),
        "y": quantitative("value", title),
        "color": scales["color"],
        "opacity": OPACITY,
    }
    lines = {
        "data": data(rows),
        "params": [CHOSEN],
        "mark": {"type": "line"},
        "encoding": {**encoding, "strokeDash": scales["strokeDash"], "detail": {"field": "replicate"}},
    }
    dots = {
        "data": data(rows),
        "mark": {"type": "point", "filled": True, "size": 14},
        "encoding": {**encoding, "tooltip": shown},
    }
    return chart(description, [lines, dots], 240)


def thinned(rows: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most about `most` of the rows, evenly spread; the last one stays."""
    every = -(-len(rows) // most)
    return [row for index, row in enumerate(rows) if (len(rows) - 1 - index) % every == 0] if rows else []
