"""The chart of layers: which share of each kernel's weights every mask keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lottery.report.charts.style import Spec, chart, data, tooltip

_CELL = 15  # pixels of height


def layers_chart(levels: Sequence[float], layers: Mapping[int, Mapping[str, tuple[int, int]]]) -> Spec | None:
    """The chart; None if there are no masks.

    Args:
        levels: the density of each level.
        layers: by level, kernel by kernel, how many weights its mask keeps, and of how many.
    """
    if not layers:
        return None
    rows = [
        {
            "kernel": kernel,
            "level": f"{100 * levels[level]:.4g}%",
            "percent": round(100 * kept / size, 4),
            "kept": kept,
            "size": size,
        }
        for level, kernels in sorted(layers.items())
        for kernel, (kept, size) in kernels.items()
    ]
    kernels = list(dict.fromkeys(row["kernel"] for row in rows))
    encoding = {
        "x": {
            "field": "level",
            "type": "ordinal",
            "sort": None,
            "title": "weights kept, of all",
            "axis": {"labelAngle": -40},
        },
        "y": {"field": "kernel", "type": "nominal", "sort": None, "title": None},
        "color": {
            "field": "percent",
            "type": "quantitative",
            "scale": {"scheme": "viridis", "type": "sqrt", "domain": [0, 100]},
            "legend": {"direction": "horizontal", "gradientLength": 200, "title": "% of the kernel's weights kept"},
        },
        "tooltip": tooltip(
            ("kernel", "kernel", ""),
            ("level", "weights kept, of all", ""),
            ("percent", "of this kernel, %", ".4~g"),
            ("kept", "weights kept", ",d"),
            ("size", "weights", ",d"),
        ),
    }
    cells = {"data": data(rows), "mark": {"type": "rect"}, "encoding": encoding}
    return chart("Share of each kernel's weights that a mask keeps, by density", [cells], _CELL * len(kernels))
