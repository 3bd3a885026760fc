"""Rows of telemetry, kept few however long a training takes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

MOST_ROWS = 500  # of a bundle: about 200 KB, which each checkpoint writes again
_MOST = ("gpu_memory_mib", "gpus_lost")  # of two rows the larger counts
_LAST = ("time", "memory_mib", "step", "trainings", "task", "executor")  # of two rows the later counts


def thinned(rows: Sequence[dict[str, Any]], most: int = MOST_ROWS) -> list[dict[str, Any]]:
    """At most `most` rows for the same time: neighbours that span the least time become one.

    So a week is kept at about the same resolution from its beginning to its end, 20 minutes with 500 rows.
    """
    kept = list(rows)
    while len(kept) > most:
        spans = [_seconds(one) + _seconds(other) for one, other in pairwise(kept)]
        place = spans.index(min(spans))
        kept[place : place + 2] = [merged(kept[place], kept[place + 1])]
    return kept


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """One row for two that follow each other: rates and shares are means over their time."""
    whole = _seconds(one) + _seconds(other)
    row: dict[str, Any] = {}
    for key in {**one, **other}:
        values = [(each[key], _seconds(each)) for each in (one, other) if isinstance(each.get(key), int | float)]
        if key in _LAST or not values:
            row[key] = other.get(key, one.get(key))
        elif key == "seconds":
            row[key] = round(whole, 3)
        elif key in _MOST:
            row[key] = max(value for value, _ in values)
        else:
            weight = sum(seconds for _, seconds in values)
            row[key] = round(sum(value * seconds for value, seconds in values) / weight, 4) if weight else values[-1][0]
    return row


def _seconds(row: dict[str, Any]) -> float:
    return float(row.get("seconds", 0.0))
