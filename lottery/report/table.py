"""A sweep's findings as lines of text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap

from lottery.experiment.config import Experiment
from lottery.report.levels import Level
from lottery.run.results import DenseResult, TicketResult
from lottery.statistics.seeds import Estimate, estimate

_WIDTH = 118  # characters of a remark; the table itself is as narrow as its cells

Rows = list[list[str]]


def table(
    experiment: Experiment,
    dense: Mapping[int, DenseResult],
    results: Iterable[TicketResult],
    rows: Sequence[Level],
    points: Mapping[int, str],
) -> str:
    """The findings as a table for a terminal, and what has to be known to read it.

    Args:
        dense: by seed.
        results: of all seeds.
        rows: as `levels` made them.
        points: the reset points' names by step.
    """
    seeds = len(dense)
    lines = _aligned(_rows(rows, points, seeds))
    if seeds > 1 and any(row.over_controls for row in rows):
        lines += ["", "best ticket less each control:", *_aligned(_control_rows(rows))]
    remarks = [
        *_legend(experiment, dense, rows),
        *(f"dense run: {note}" for note in dict.fromkeys(each.note for each in dense.values() if each.note)),
        *_without_verdict(rows, seeds),
        *notes(results),
    ]
    return "\n".join([*lines, "", *(line for remark in remarks for line in wrap(remark, _WIDTH))])


def notes(results: Iterable[TicketResult]) -> list[str]:
    """A line for each kind of note on tickets that are done, such as layers without weights; and how many diverged."""
    found: dict[str, set[int]] = defaultdict(set)
    diverged: list[int] = []
    for result in results:
        if result.status == "done" and result.note:
            found[result.note].add(result.level)
        elif result.status == "diverged":
            diverged.append(result.level)
    lines = [f"{_levels(where)}: {note}" for note, where in sorted(found.items(), key=lambda item: min(item[1]))]
    if diverged:
        lines.append(f"{_levels(diverged)}: {len(diverged)} diverged; results.parquet gives the step of each")
    return lines


def _rows(rows: Sequence[Level], points: Mapping[int, str], seeds: int) -> Rows:
    controls = sorted({name for row in rows for name in row.controls})
    last = "matches dense" if seeds > 1 else "p"
    found = [["level", "density", "reset 0", "best reset", "best", "gain", *controls, "less dense", last]]
    for row in rows:
        images = row.images
        found.append(
            [
                f"{row.level}",
                f"{row.density:.2%}",
                _accuracy(row.first),
                "-" if row.step is None else points[row.step],
                _accuracy(row.best),
                _difference(row.gain_images.difference if row.gain_images else row.gain),
                *(_accuracy(row.controls.get(name)) for name in controls),
                _difference(images.difference if images else row.verdict.difference),
                _verdict(row) if seeds > 1 else "-" if images is None else _p(images.p),
            ]
        )
    return found


def _control_rows(rows: Sequence[Level]) -> Rows:
    names = sorted({name for row in rows for name in row.over_controls})
    found = [["level", "density", *names]]
    for row in rows:
        differences = (_difference(row.over_controls.get(name)) for name in names)
        found.append([f"{row.level}", f"{row.density:.2%}", *differences])
    return found


def _aligned(rows: Rows) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _legend(experiment: Experiment, dense: Mapping[int, DenseResult], rows: Sequence[Level]) -> list[str]:
    first, seeds, data = next(iter(dense.values())), len(dense), experiment.data
    level = _dense_level(dense)
    across = f", means over {seeds} seeds" if seeds > 1 else ""
    lines = [
        f"dense network: {level}; top-1 in % on {first.evaluated:,} images of {data.evaluate}{across}; differences in "
        "points; gain: best ticket less reset 0"
    ]
    resets = max((row.resets for row in rows), default=0)
    if data.select is not None:
        lines.append(
            f"best reset: the one with the highest accuracy on {first.select_images:,} images of {data.select}"
        )
    elif resets > 1:
        lines.append(
            f"best reset: chosen on {data.evaluate} itself, so best and gain are flattered: the highest of {resets} "
            f"accuracies is high partly by chance; with data.select: minival it is chosen on other images"
        )
    return [*lines, *(_of_seeds(experiment, len(rows), resets) if seeds > 1 else _of_one_seed(rows))]


def _dense_level(dense: Mapping[int, DenseResult]) -> str:
    found = estimate([result.top1 for result in dense.values()])
    if found is None or found.interval is None:
        return _accuracy(found)
    return f"{_accuracy(found)} ({100 * found.interval[0]:.2f} to {100 * found.interval[1]:.2f})"


def _of_seeds(experiment: Experiment, levels: int, resets: int) -> list[str]:
    margin, level = experiment.verdict.margin, experiment.verdict.level
    choice = f" and for the choice among {resets} reset points" if resets > 1 else ""
    return [
        "± and intervals: 95% t intervals over seeds, paired by seed if of a difference",
        f"matches: shown to be less than {margin:g} points worse than dense (verdict.margin); worse: shown to be more "
        "than that worse; undecided: more seeds may tell",
        f"p: non-inferiority t test, corrected for {levels} levels (Holm){choice}; verdict.level: {level:g}",
    ]


def _of_one_seed(rows: Sequence[Level]) -> list[str]:
    lines = ["one seed: not a verdict; several seeds give one"]
    if any(row.images for row in rows):
        lines[0] += (
            "; p and ± (95% interval) compare two networks on these images (McNemar's exact test, not corrected for "
            "the choice), and say nothing about other seeds"
        )
    missing = [row.level for row in rows if row.step is not None and row.images is None]
    if missing:
        why = "it takes one ticket seed, and answers.safetensors, which earlier versions did not keep"
        lines.append(f"{_levels(missing)}: no test on images: {why}")
    return lines


def _without_verdict(rows: Sequence[Level], seeds: int) -> list[str]:
    if seeds == 1:
        return []
    found: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        if row.verdict.answer is None:
            found[row.verdict.why].append(row.level)
    return [f"{_levels(where)}: no verdict: {why}" for why, where in found.items()]


def _verdict(row: Level) -> str:
    verdict = row.verdict
    if verdict.answer is None:
        return "no verdict"
    p = verdict.p_worse if verdict.answer == "worse" else verdict.p_matches
    assert p is not None
    return f"{verdict.answer}, p {_p(p)}"


def _accuracy(value: Estimate | None) -> str:
    return "-" if value is None else f"{100 * value.mean:.2f}"


def _difference(value: Estimate | None) -> str:
    """Points, with half the interval."""
    if value is None:
        return "-"
    half = "" if value.interval is None else f" ±{100 * (value.interval[1] - value.mean):.2f}"
    return f"{100 * value.mean:+.2f}{half}"


def _p(value: float) -> str:
    return "<.001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def _levels(numbers: Iterable[int]) -> str:
    """`level 3`, or `levels 0 to 2, 5`."""
    ordered = sorted(set(numbers))
    runs: list[list[int]] = []
    for number in ordered:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = (f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
    return f"level{'s' if len(ordered) > 1 else ''} {', '.join(parts)}"
