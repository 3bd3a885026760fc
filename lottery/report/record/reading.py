"""Reads what a report needs of a run directory, at any time, also while a sweep is at work on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from lottery.report.record.sweep_record import Layers, ReplicateRecord, SweepRecord, mask_key
from lottery.run.run_directory import RunDirectory, TicketResult
from lottery.run.search_state import search_state
from lottery.tickets.controls import CONTROLS, shuffled, unchanged
from lottery.tickets.tickets import NO_CONTROL, all_tickets

_THREADS = 8  # a store far away answers each request after some 50 ms

T = TypeVar("T")


def read_sweep(run: RunDirectory) -> SweepRecord:
    """What there is of a sweep. Raises InputError if a file is damaged, FileNotFoundError if it is no run directory."""
    origin = run.origin()
    replicates = tuple(_read_replicate(each) for each in run.replicates())
    over = None
    if origin.experiment.search != "grid":
        results = [(each.dense, each.results) for each in replicates]
        state = search_state(origin.experiment, origin.timeline.trellis, results)
        done = [{result.ticket for result in each.results} for each in replicates]
        over = state.is_over(all_tickets(origin.experiment, origin.timeline), done)
    return SweepRecord(origin, run.describe(), replicates, run.submission(), over)


def _read_replicate(run: RunDirectory) -> ReplicateRecord:
    experiment = run.origin().experiment
    results = run.results()
    return ReplicateRecord(
        seed=experiment.seed,
        run=run,
        dense=run.dense_result(),
        results=tuple(results),
        metrics=_each(run.begun(), run.metrics),
        telemetry=_each(run.bundles(), run.telemetry),
        layers=_layers(run, results, experiment.masks.of_dense_run),
        provenance=run.provenance(),
    )


def _each(names: Iterable[str], read: Callable[[str], T]) -> dict[str, T]:
    """What `read` gives for each name."""
    listed = list(names)
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(listed, pool.map(read, listed), strict=True))


def _layers(run: RunDirectory, results: Iterable[TicketResult], of_dense_run: int) -> Mapping[tuple[int, ...], Layers]:
    """Of each mask that a result's ticket has, the weights that it keeps. A mask that is missing is left out."""
    found: dict[tuple[int, ...], Layers] = {}
    for result in results:
        key = mask_key(result.ticket, of_dense_run)
        if key not in found and has_level_mask(result.control) and run.has_mask(key[0], key[1:]):
            mask = run.mask(key[0], chain=key[1:])
            found[key] = {name: (int(np.count_nonzero(kept)), kept.size) for name, kept in mask.items()}
    return found


def has_level_mask(control: str) -> bool:
    """Whether the mask of a ticket or control keeps in each kernel as many weights as the mask of its level."""
    return control == NO_CONTROL or (
        control in CONTROLS and CONTROLS[control].mask in (unchanged, shuffled) and not CONTROLS[control].is_narrow
    )
