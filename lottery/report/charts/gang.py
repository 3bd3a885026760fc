"""The charts of the gang: who trained what when, and how well the machines were used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lottery.report.charts.style import Spec, chart, data, quantitative, tooltip
from lottery.report.record.spans import Clock, Span
from lottery.report.record.usage import Use

_ROW = 18  # pixels of height
_MOST = 4000  # spans that are drawn
_KINDS = {"dense run": "#7F7F7F", "tickets and controls": "#0072B2"}
_USES = {"device in use": "#009E73", "waiting for input": "#D55E00"}


def unit_of(seconds: float) -> tuple[str, float]:
    """The unit in which people would give a time of this length, and its seconds."""
    if seconds < 180:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)


def timeline_chart(found: Sequence[Span], clock: Clock, failures: Sequence[tuple[float, str]] = ()) -> Spec | None:
    """The timeline; None if there are no spans.

    Args:
        failures: what was lost: seconds since 1970, and the reason.
    """
    if not found:
        return None
    unit, seconds = unit_of(clock.total)
    rows = [_bar(span, clock, seconds) for span in found[:_MOST]]
    places = sorted({span.place: (span.task is None, span.task or 0, span.executor) for span in found}.items(), key=_at)
    y = {"field": "place", "type": "nominal", "title": None, "sort": [name for name, _ in places]}
    title = f"{unit} since the sweep began, without breaks"
    shown = tooltip(
        ("place", "where", ""),
        ("work", "trains", ""),
        ("begin", f"from ({unit})", ".4~g"),
        ("end", f"to ({unit})", ".4~g"),
    )
    colour = {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": list(_KINDS), "range": list(_KINDS.values())},
    }
    x = {**quantitative("begin", title), "scale": {"domain": [0, max(clock.total / seconds, 1e-9)]}}
    bars = {
        "data": data(rows),
        "mark": {"type": "bar", "height": {"band": 0.75}, "stroke": "currentColor", "strokeWidth": 0.3},
        "encoding": {"x": x, "x2": {"field": "end"}, "y": y, "color": colour, "tooltip": shown},
    }
    again = [{**row, "what": "went on after its process had ended"} for row in rows if row["again"]]
    retries = {
        "data": data(again),
        "mark": {"type": "point", "shape": "triangle-right", "filled": True, "size": 70, "color": "#E69F00"},
        "encoding": {"x": x, "y": y, "tooltip": tooltip(("what", "what", ""), ("work", "trains", ""))},
    }
    lost = [{"at": clock.elapsed(moment) / seconds, "reason": f"lost: {reason}"} for moment, reason in failures]
    rules = [*lost, *({"at": at / seconds, "reason": f"a break of {_length(gap)}"} for at, gap in clock.breaks)]
    marks = {
        "data": data(rules),
        "mark": {"type": "rule", "color": "#D55E00", "strokeDash": [4, 3], "strokeWidth": 2},
        "encoding": {"x": {**x, "field": "at"}, "tooltip": tooltip(("reason", "what", ""))},
    }
    layers = [bars, *([retries] if again else []), *([marks] if rules else [])]
    return chart("Which task trained what when", layers, max(_ROW * len(places), 40))


def use_chart(uses: Mapping[str, Use | None], clock: Clock) -> Spec | None:
    """Device use and input wait over time; None if neither is known.

    Args:
        uses: by the names `device in use` and `waiting for input`, in percent.
    """
    unit, seconds = unit_of(clock.total)
    rows = [
        {"series": name, "at": begin / seconds, "mean": mean, "low": low, "high": high}
        for name, use in uses.items()
        if use is not None
        for begin, mean, low, high in zip(use.begin, use.mean, use.low, use.high, strict=True)
    ]
    if not rows:
        return None
    rows = [{key: value if key == "series" else round(float(value), 4) for key, value in row.items()} for row in rows]
    x = {**quantitative("at", f"{unit} since the sweep began, without breaks")}
    scale = {"domain": [0, max(100.0, *(row["high"] for row in rows))], "nice": False}
    names = [name for name, use in uses.items() if use is not None]
    colour = {
        "field": "series",
        "type": "nominal",
        "scale": {"domain": names, "range": [_USES[name] for name in names]},
    }
    shown = tooltip(
        ("series", "what", ""),
        ("at", unit, ".4~g"),
        ("mean", "mean over tasks, %", ".1f"),
        ("low", "least, %", ".1f"),
        ("high", "most, %", ".1f"),
    )
    title = "% of the time"
    bands = {
        "data": data(rows),
        "mark": {"type": "area", "opacity": 0.18},
        "encoding": {
            "x": x,
            "y": {**quantitative("low", title), "scale": scale},
            "y2": {"field": "high"},
            "color": colour,
        },
    }
    lines = {
        "data": data(rows),
        "mark": {"type": "line", "point": {"size": 12}},
        "encoding": {"x": x, "y": {**quantitative("mean", title), "scale": scale}, "color": colour, "tooltip": shown},
    }
    return chart("Device use and input wait over time: mean, least and most over the tasks", [bands, lines], 200)


def _bar(span: Span, clock: Clock, seconds: float) -> dict[str, Any]:
    begin, end = clock.elapsed(span.begin) / seconds, clock.elapsed(span.end) / seconds
    return {
        "place": span.place,
        "kind": "dense run" if span.is_dense else "tickets and controls",
        "work": span.work,
        "begin": round(begin, 4),
        "end": round(end, 4),
        "again": span.again,
    }


def _at(place: tuple[str, tuple[bool, int, str]]) -> tuple[bool, int, str]:
    return place[1]


def _length(gap: float) -> str:
    unit, seconds = unit_of(gap)
    return f"{gap / seconds:.3g} {unit}"
