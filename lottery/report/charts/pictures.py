"""Charts as files: PNG and SVG, by Vega itself, without a browser."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from lottery.report.charts.style import Spec

_PIXELS_PER_INCH = 144  # of a PNG; twice as fine as the chart's own pixels


@dataclass(frozen=True)
class Picture:
    """A chart, drawn. `svg` is text, `png` the same as pixels on white."""

    svg: str
    png: bytes


def draw(spec: Spec) -> Picture:
    """Draws a chart. Raises ValueError if Vega-Lite cannot compile it."""
    import vl_convert  # here, as it starts a JavaScript engine

    svg = vl_convert.vegalite_to_svg({**spec, "config": {**spec["config"], "background": "white"}})
    return Picture(svg, vl_convert.svg_to_png(svg, ppi=_PIXELS_PER_INCH))


@cache
def bundle() -> str:
    """The JavaScript of Vega, Vega-Lite and Vega-Embed, which draws charts in a browser as `vegaEmbed`."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
