"""Findings as lines of text, as wide as a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from science.findings import LEVEL, Comparison, Finding


def table(findings: Sequence[Finding]) -> str:
    """Every finding: what is expected, its comparisons, and what is shown."""
    lines = [
        "Differences are means over replicates, paired by seed, with intervals of 95%; points are of top-1 on val.",
        f"p: one-sided t test of what is expected, Holm-corrected within the finding. Shown: p <= {LEVEL:g}.",
    ]
    for finding in findings:
        lines += ["", f"{finding.name}: {finding.verdict} ({', '.join(finding.experiments)})"]
        expected = f"expected: {finding.expected} ({finding.paper})"
        lines += textwrap.wrap(expected, 118, initial_indent="  ", subsequent_indent="    ")
        lines += [_row(each) for each in finding.comparisons]
    return "\n".join(lines)


def _row(comparison: Comparison) -> str:
    what = comparison.what + ("" if comparison.density is None else f" at {100 * comparison.density:.3g}%")
    return f"  {what:<52} {_found(comparison)}  {'shown' if comparison.shown else 'not shown'}"


def _found(comparison: Comparison) -> str:
    """The figures, and what is expected of them."""
    if comparison.mean is None:
        return "no difference: a training diverged, failed or is missing"
    figure = f"{comparison.mean:+6.2f} {comparison.unit:<8}"
    if comparison.bound is not None:
        return f"{figure} expected: at most {comparison.bound:.2g}"
    interval = "no interval"
    if comparison.low is not None and comparison.high is not None:
        interval = f"[{comparison.low:+.2f}, {comparison.high:+.2f}]"
    p = "-" if comparison.p is None else f"{comparison.p:.4f}"
    return f"{figure} {interval:<16} p {p}  n {len(comparison.differences)}  > {0 - comparison.margin:g}"
