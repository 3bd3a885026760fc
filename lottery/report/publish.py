"""Writes and prints the report of a run directory."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lottery.report import published_curves
from lottery.report.charts.accuracy import Line
from lottery.report.levels import Answers, Level, levels
from lottery.report.page.headline import headline
from lottery.report.page.writing import PAGE, write_events, write_page
from lottery.report.record.reading import read_sweep
from lottery.report.record.sweep_record import SweepRecord
from lottery.report.results_parquet import csv, parquet, parquet_of_replicates
from lottery.report.search_lines import search_lines
from lottery.report.table import table
from lottery.run.origin import Origin
from lottery.run.run_directory import DENSE, DenseResult, RunDirectory, TicketResult

logger = logging.getLogger(__name__)


def publish(
    run: RunDirectory, published: str | None = None, price: float | None = None
) -> dict[int, list[TicketResult]]:
    """Writes the report from the results so far, prints the table and where it all is; returns the results by seed.

    Without a dense run that is done there are no table and results, but the page shows how far the sweep is.

    Args:
        published: names the published curves that are drawn behind the accuracies, as in `published_curves.choose`.
        price: of one executor per hour.

    Raises InputError if a file is damaged.
    """
    began = time.monotonic()
    record = read_sweep(run)
    origin, experiment, points = record.origin, record.origin.experiment, reset_points(record.origin)
    rows: list[Level] = []
    lines: list[str] = []
    theirs: list[Line] = []
    if record.dense:
        curves = published_curves.choose(published, experiment, next(iter(record.dense.values())), origin.train_images)
        theirs = published_curves.lines(curves, experiment.masks.iterative is not None)
        answers = answers_of({each.seed: each.run for each in record.replicates}, record.dense)
        select = experiment.data.select is not None
        rows = levels(record.dense, record.results, experiment.verdict, select, answers)
        searched = search_lines(origin, [(each.dense, each.results) for each in record.replicates])
        lines = [table(experiment, record.dense, record.pooled, rows, points), *searched]
        _write_results(run, record)
        print("\n".join(lines), flush=True)
    else:
        print("the dense run is not done yet: no table and no results")
    order = experiment.tickets.seeds[0]
    outcome = headline(list(record.dense.values()), rows, points, experiment.verdict, order)
    write_page(run, record, points, outcome, findings="\n".join(lines), published=theirs, price=price)
    write_events(run, record, points)
    logger.info("the report took %.1f s", time.monotonic() - began)
    if record.dense:
        print(f"results: {run.describe('results.parquet')}")
    print(f"TensorBoard: tensorboard --logdir {run.describe('events')}")
    print(f"report: {run.describe(PAGE)}", flush=True)
    return {seed: list(results) for seed, results in record.results.items()}


def _write_results(run: RunDirectory, record: SweepRecord) -> None:
    blob = parquet(record.pooled) if len(record.replicates) == 1 else parquet_of_replicates(record.results)
    run.write_report("results.parquet", blob)
    run.write_report("results.csv", csv(blob))


def reset_points(origin: Origin) -> dict[int, str]:
    """The steps of the trellis, each with its name in the experiment, such as `400` or `0.5ep`."""
    return {step: str(point) for step, point in zip(origin.timeline.trellis, origin.experiment.trellis, strict=True)}


def answers_of(replicates: Mapping[int, RunDirectory], dense: Mapping[int, DenseResult]) -> Answers:
    """Reads which images the networks of the only seed with a dense run got right; for `levels`.

    What it returns raises InputError if a file is damaged.
    """
    (seed, dense_result), *_ = dense.items()

    def read(result: TicketResult | None) -> NDArray[np.bool_] | None:
        name, scores = (DENSE, dense_result) if result is None else (result.ticket.name, result)
        found = replicates[seed].answers(name, scores.top1, scores.select_top1)
        return None if found is None else found.evaluate

    return read
