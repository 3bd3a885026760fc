"""What the charts have in common: Vega-Lite's settings, colours, and the look of each line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# A chart in Vega-Lite's JSON: https://vega.github.io/vega-lite/docs/spec.html
Spec = dict[str, Any]

WIDTH = 680  # pixels, of the pictures in files; on the page a chart is as wide as there is room
DENSE = "dense network"

# Of Okabe and Ito: people who are colour-blind can tell them apart, and all are readable on white and on black.
_RESETS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_CONTROLS = ("#D55E00", "#8C6D31", "#A05195", "#7F7F7F", "#3B8686")
_SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down")
_DASHES = ((6, 3), (2, 2), (8, 3, 2, 3), (4, 4), (10, 2))
PUBLISHED = "#999999"

# `currentColor` takes the page's colour of text, light or dark; in a file it is black.
_INK = "currentColor"
CONFIG: Spec = {
    "background": "transparent",
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": _INK,
        "titleColor": _INK,
        "titleFontWeight": "normal",
        "domainColor": _INK,
        "tickColor": _INK,
        "gridColor": _INK,
        "gridOpacity": 0.12,
        "labelOverlap": True,
    },
    "legend": {
        "orient": "bottom",
        "columns": 3,
        "title": None,
        "labelColor": _INK,
        "titleColor": _INK,
        "labelLimit": 220,
        "symbolSize": 60,
        "symbolStrokeWidth": 2,
    },
    "line": {"strokeWidth": 1.6},
    "text": {"color": _INK},
}


def chart(description: str, layers: Sequence[Spec], height: int = 320, **more: Any) -> Spec:
    """A chart of layers, one over the other; `description` says in a sentence what it shows."""
    size = {"width": WIDTH, "height": height}
    return {"description": description, **size, "config": CONFIG, "layer": list(layers), **more}


def data(rows: Sequence[dict[str, Any]]) -> Spec:
    """The rows that a layer draws."""
    return {"values": list(rows)}


def quantitative(field: str, title: str | None = None, **more: Any) -> Spec:
    """The channel of a number. The axis need not begin at 0."""
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": False}, **more}


def tooltip(*columns: tuple[str, str, str]) -> list[Spec]:
    """What hovering shows: (field, title, format of d3) of each; the format is empty for text."""
    return [
        {"field": field, "title": title, **({"type": "quantitative", "format": form} if form else {"type": "nominal"})}
        for field, title, form in columns
    ]


def series_scales(resets: Sequence[str], controls: Sequence[str], others: Sequence[str] = ()) -> dict[str, Spec]:
    """The channels colour, dash and shape of lines by their field `series`, which share one legend.

    Args:
        resets: names of the tickets' lines, by reset point.
        controls: names of the controls' lines, which are dashed.
        others: names of further lines, drawn in the colour of text, and without points.
    """
    names = [*resets, *controls, *others]
    colours = [
        *(_RESETS[index % len(_RESETS)] for index in range(len(resets))),
        *(_CONTROLS[index % len(_CONTROLS)] for index in range(len(controls))),
        *(_INK for _ in others),
    ]
    dashes = [
        *([1, 0] for _ in resets),
        *(list(_DASHES[index % len(_DASHES)]) for index in range(len(controls))),
        *([1, 0] for _ in others),
    ]
    shapes = [
        *(_SHAPES[index % len(_SHAPES)] for index in range(len(resets))),
        *("stroke" for _ in controls),
        *("stroke" for _ in others),
    ]
    channels = {"color": colours, "strokeDash": dashes, "shape": shapes}
    return {
        channel: {"field": "series", "type": "nominal", "scale": {"domain": names, "range": values}, "sort": None}
        for channel, values in channels.items()
    }


# A click in the legend leaves one line, with shift several; a double click brings all of them back.
CHOSEN = {"name": "chosen", "select": {"type": "point", "fields": ["series"]}, "bind": "legend"}
OPACITY = {"condition": {"param": "chosen", "value": 1}, "value": 0.12}


def spread(values: Sequence[float], ratio: float = 1.13) -> list[float]:
    """The positive values, falling, that a log axis can label without running into each other."""
    labelled: list[float] = []
    for value in sorted(set(values), reverse=True):
        if not labelled or value <= labelled[-1] / ratio:
            labelled.append(value)
    return labelled
