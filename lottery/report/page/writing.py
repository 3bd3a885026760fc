"""Writes the report's page, its pictures and TensorBoard's files into the run directory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from lottery.report.charts import pictures
from lottery.report.charts.accuracy import Line
from lottery.report.page.figures import figures
from lottery.report.page.headline import Headline
from lottery.report.page.page import page
from lottery.report.record.sweep_record import SweepRecord
from lottery.report.tensorboard.events import event_files
from lottery.run.run_directory import RunDirectory

PAGE = "report/index.html"
_THREADS = 8  # a store far away answers each request after some 50 ms


def write_page(
    run: RunDirectory,
    record: SweepRecord,
    points: Mapping[int, str],
    headline: Headline,
    *,
    findings: str = "",
    published: Sequence[Line] = (),
    price: float | None = None,
) -> None:
    """Writes report/index.html, and each of its charts as report/NAME.png and report/NAME.svg.

    Args:
        points: the reset points' names by step.
        findings: the table by level, as text.
        published: results of others, to draw in grey.
        price: of one executor per hour.
    """
    drawn = [(figure, pictures.draw(figure.spec)) for figure in figures(record, points, headline.winner, published)]
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    text = page(record, drawn, points, headline, bundle=pictures.bundle(), findings=findings, price=price, made=made)
    blobs = {f"report/{figure.name}.png": picture.png for figure, picture in drawn}
    blobs |= {f"report/{figure.name}.svg": picture.svg.encode() for figure, picture in drawn}
    _write(run, blobs)
    run.write_report(PAGE, text)  # last: it names the others


def write_events(run: RunDirectory, record: SweepRecord, points: Mapping[int, str]) -> None:
    """Writes TensorBoard's files below events/, over earlier ones."""
    _write(run, event_files(record, points))


def _write(run: RunDirectory, blobs: Mapping[str, bytes]) -> None:
    def write(item: tuple[str, bytes]) -> None:
        run.write_report(*item)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(write, blobs.items()))
