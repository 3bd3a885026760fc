"""The whole report of a sweep, finished or not: table, results, page, pictures, TensorBoard's files."""

from __future__ import annotations

import logging
import time

from lottery.report import publish
from lottery.report.page.headline import headline
from lottery.report.page.writing import PAGE, write_events, write_page
from lottery.report.record.reading import read_sweep
from lottery.run.run_directory import RunDirectory, TicketResult

logger = logging.getLogger(__name__)


def write_report(run: RunDirectory, price: float | None = None) -> dict[int, list[TicketResult]]:
    """Writes the report from the results so far, and prints the table and where the report is.

    Without a dense run that is done there is no table and no results.parquet, but the page shows how far it is.

    Args:
        price: of one executor per hour.

    Returns:
        The results by seed.
    """
    began = time.monotonic()
    record = read_sweep(run)
    points = publish.reset_points(record.origin)
    found, findings = list(record.dense.values()), ""
    dense = publish.mean_dense(found) if found else None
    if dense is not None:
        publish.publish(run)
        findings = publish.table(dense, record.pooled, points, len(found))
    else:
        print("The dense run is not done yet, so there is no table.")
    levels = publish.levels(dense, record.pooled) if dense is not None else []
    outcome = headline(dense, levels, points, len(found))
    write_page(run, record, points, outcome, findings=findings, price=price)
    write_events(run, record, points)
    print(f"TensorBoard: tensorboard --logdir {run.describe('events')}")
    print(f"report: {run.describe(PAGE)}", flush=True)
    logger.info("the report took %.1f s", time.monotonic() - began)
    return {seed: list(results) for seed, results in record.results.items()}
