"""An analysis from end to end: parts in turn, each to tables and pictures in `analysis/` and to text."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from lottery.analysis import pictures, text
from lottery.analysis.distance_rows import distance_rows
from lottery.analysis.forward import pass_forward
from lottery.analysis.mask_rows import layer_rows, overlap_rows
from lottery.analysis.network_rows import (
    Wanted,
    agreement_rows,
    all_ends,
    all_pairs,
    barrier_rows,
    differs_from_record,
    line_rows,
    passes,
)
from lottery.analysis.options import FORWARD, Options
from lottery.analysis.parquet import parquet
from lottery.analysis.rows import AgreementRow, BarrierRow, DistanceRow, LayerRow, LineRow, OverlapRow
from lottery.analysis.study import Study
from preprocessing.common.errors import InputError
from preprocessing.dataset.opening import Dataset

logger = logging.getLogger(__name__)

NO_OVERLAP = "overlap: there are no two masks to compare; --with names another run directory, `seeds` makes replicates"
NO_LINES = (
    "barrier: no two trainings from the same state with different orders of samples are done; add a seed to "
    "tickets.seeds (--set 'tickets.seeds=[0, 1]'), and for the dense network 1.0 at the end of masks.densities: a new "
    "sweep below the same --runs adopts what is trained already"
)
NO_NETWORKS = "agreement: no two networks of a level are done"

Row = TypeVar("Row", bound=msgspec.Struct)


def analyze(study: Study, options: Options) -> list[str]:
    """Writes the parts' tables and pictures, and returns the tables as lines of text.

    A part that has nothing to compare is a line that says why, and what is missing of the run directory is at the end.

    Raises InputError if a file is damaged or does not belong to the others, or the dataset is another than the sweep's.
    """
    dataset = _dataset(study, options)
    lines = []
    if options.has("overlap"):
        found = overlap_rows(study)
        lines += _publish(study, "overlap", OverlapRow, found, text.overlap_table, pictures.overlap_picture, NO_OVERLAP)
    if options.has("layers"):
        nothing = "layers: there are no masks yet"
        lines += _publish(
            study, "layers", LayerRow, layer_rows(study), text.layer_table, pictures.layer_picture, nothing
        )
    if options.has("distance"):
        moved, nothing = distance_rows(study), "distance: the dense run or its masks are not done yet"
        lines += _publish(
            study, "distance", DistanceRow, moved, text.distance_table, pictures.distance_picture, nothing
        )
    if dataset is not None:
        lines += _forward_parts(study, options, dataset)
    missing = study.missing()
    return [*lines, "", *(f"missing: {line}" for line in missing)] if missing else lines


def _dataset(study: Study, options: Options) -> Dataset | None:
    """The dataset, if a part needs it. Raises InputError if it is another than the one that the sweep ran on."""
    if options.data is None or not any(map(options.has, FORWARD)):
        return None
    dataset, wanted = Dataset.open(options.data), study.home.origin().dataset_hash
    if dataset.content_hash != wanted:
        raise InputError(
            f"--data {options.data}: its hash is {dataset.content_hash[:12]}, that of the sweep's dataset "
            f"{wanted[:12]}; give the dataset that the sweep ran on"
        )
    return dataset


def _forward_parts(study: Study, options: Options, dataset: Dataset) -> list[str]:
    wanted = Wanted(
        all_ends(study) if options.has("barrier") else [],
        all_pairs(study) if options.has("agreement") else [],
    )
    cores = len(os.sched_getaffinity(0))
    asked = passes(study, wanted, dataset.uri, options.points, options.statistics_images, cores)
    images = dataset.split(asked.experiment.data.evaluate).count
    if asked.lines or asked.networks:
        logger.info(
            "forward passes: %d lines of %d networks, and predictions of %d networks, on %d images each",
            len(asked.lines),
            options.points,
            len(asked.networks),
            images,
        )
        lines, predictions = pass_forward(asked)
    else:
        lines, predictions = [], []
    found = []
    if options.has("barrier"):
        warning = differs_from_record(wanted.lines, lines)
        if warning:
            logger.warning("%s: other software or hardware, or other files than those that were evaluated", warning)
        barriers = barrier_rows(wanted.lines, lines, asked.positions)
        points = line_rows(wanted.lines, lines, asked.positions)
        found += _publish(
            study, "barrier", BarrierRow, barriers, text.barrier_table, pictures.barrier_picture, NO_LINES
        )
        found += _publish(study, "line", LineRow, points, lambda rows: [], pictures.line_picture, "")
    if options.has("agreement"):
        churn = agreement_rows(study, wanted, predictions, len(dataset.class_names))
        found += _publish(
            study, "agreement", AgreementRow, churn, text.agreement_table, pictures.agreement_picture, NO_NETWORKS
        )
    return found


def _publish(
    study: Study,
    name: str,
    kind: type[Row],
    rows: Sequence[Row],
    table: Callable[[Sequence[Row]], list[str]],
    picture: Callable[[str, Sequence[Row]], bytes],
    nothing: str,
) -> list[str]:
    """Writes `analysis/<name>.parquet` and `.png`; returns the table, or without rows the line `nothing`."""
    study.home.write_report(f"analysis/{name}.parquet", parquet(kind, rows))
    if not rows:
        return ["", nothing] if nothing else []
    study.home.write_report(f"analysis/{name}.png", picture(study.home.origin().experiment.name, rows))
    logger.info("%s: %s", name, study.home.describe(f"analysis/{name}.parquet"))
    return table(rows)
