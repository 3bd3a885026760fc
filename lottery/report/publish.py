"""Writes and prints the report of a run directory."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from lottery.report import published_curves
from lottery.report.levels import Answers, levels
from lottery.report.picture import accuracy_plot
from lottery.report.results_parquet import parquet, parquet_of_replicates
from lottery.report.search_lines import search_lines
from lottery.report.table import table
from lottery.run.origin import Origin
from lottery.run.run_directory import DENSE, DenseResult, RunDirectory, TicketResult
from preprocessing.common.errors import InputError


def publish(run: RunDirectory, published: str | None = None) -> dict[int, list[TicketResult]]:
    """Writes results.parquet and report/accuracy.png, prints the table and their places; returns the results by seed.

    Of several seeds, the table and the picture have the mean over those that are there. `published` names the published
    curves that the picture has behind them, as in `published_curves.choose`.

    Raises InputError if there is no dense run that is done, or a file is damaged.
    """
    replicates = {each.origin().experiment.seed: each for each in run.replicates()}
    dense = {seed: result for seed, each in replicates.items() if (result := each.dense_result()) is not None}
    if not dense:
        raise InputError(f"{run.describe()}: the dense run is not done yet; there is nothing to report")
    results = {seed: each.results() for seed, each in replicates.items()}
    pooled = [result for each in results.values() for result in each]
    run.write_report("results.parquet", parquet(pooled) if len(replicates) == 1 else parquet_of_replicates(results))
    origin = run.origin()
    experiment, points = origin.experiment, reset_points(origin)
    curves = published_curves.choose(published, experiment, next(iter(dense.values())), origin.train_images)
    behind = partial(published_curves.draw, every=curves, iterative=experiment.masks.iterative is not None)
    run.write_report("report/accuracy.png", accuracy_plot(experiment.name, dense, results, points, behind))
    select = experiment.data.select is not None
    rows = levels(dense, results, experiment.verdict, select, answers_of(replicates, dense))
    print(table(experiment, dense, pooled, rows, points))
    for line in search_lines(run):
        print(line)
    print(f"results: {run.describe('results.parquet')}")
    print(f"picture: {run.describe('report/accuracy.png')}", flush=True)
    return results


def reset_points(origin: Origin) -> dict[int, str]:
    """The steps of the trellis, each with its name in the experiment, such as `400` or `0.5ep`."""
    return {step: str(point) for step, point in zip(origin.timeline.trellis, origin.experiment.trellis, strict=True)}


def answers_of(replicates: dict[int, RunDirectory], dense: dict[int, DenseResult]) -> Answers:
    """Reads which images the networks of the only seed with a dense run got right; for `levels`.

    What it returns raises InputError if a file is damaged.
    """
    (seed, dense_result), *_ = dense.items()

    def read(result: TicketResult | None) -> NDArray[np.bool_] | None:
        name, scores = (DENSE, dense_result) if result is None else (result.ticket.name, result)
        found = replicates[seed].answers(name, scores.top1, scores.select_top1)
        return None if found is None else found.evaluate

    return read
