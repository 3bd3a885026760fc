"""Takes a trained network out of a run directory: has a child write the network, and adds mask, classes and card."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lottery.analysis.forward import one_gpu
from lottery.executor.child import raise_input_error, run_child
from lottery.executor.child_environment import child_environment
from lottery.export import card
from lottery.export.choice import Chosen
from lottery.export.destination import check_free, new_folder
from lottery.export.sizes import sizes
from lottery.protocol import Event, Exported, ExportRequest
from lottery.run import blobs
from lottery.run.dataset_record import DatasetRecord, record_of
from lottery.run.results import TicketResult
from lottery.run.ticket_files import mask_of
from lottery.tickets.masks import Mask
from preprocessing.common.errors import InputError
from preprocessing.dataset.opening import Dataset

logger = logging.getLogger(__name__)

CARD = "README.md"
FORMATS = ("keras", "safetensors")
_TOLERANCE = 1e-3  # of the accuracy on another processor, or by another TensorFlow, which round in other ways
_PACKAGES = ("lottery-trellis", "tensorflow", "tensorflow-cpu", "keras")


def export(chosen: Chosen, output: str, formats: Sequence[str], compact: bool, data: str | None) -> list[str]:
    """Writes a training's network, mask and card to a new folder. Returns lines on what is there.

    Args:
        output: path or URI of the folder.
        formats: of FORMATS.
        compact: whether to write the network also without the channels that nothing reads or feeds.
        data: the dataset, on which the file is evaluated; None if it is not.

    Raises:
        InputError: the folder is taken, the dataset is another one, or the network cannot be exported.
        StorageError: storage failed.
    """
    check_free(output)
    dataset = _dataset(chosen, data)
    mask = None if chosen.ticket is None else mask_of(chosen.run, chosen.ticket, chosen.origin.experiment)
    saved = chosen.run.needed_checkpoint(chosen.name)
    variables = {path: array for path, array in saved.variables.items() if not path.startswith("optimizer/")}
    if mask is not None:
        _check_zeros(chosen, variables, mask)
    logger.info("exporting %s of %s: %s", chosen.name, chosen.run.describe(), chosen.why)
    with new_folder(output, CARD) as folder:
        facts = _ask(chosen, dataset, folder, formats, compact, data)
        _check_accuracy(chosen, facts)
        if mask is not None:
            (folder / "mask.safetensors").write_bytes(blobs.pack(mask, {"training": chosen.name}))
        (folder / "classes.json").write_text(json.dumps(dataset.classes, ensure_ascii=False, indent=1))
        written = {path.name: path.stat().st_size for path in folder.iterdir()}
        measured = sizes(variables, mask or ())
        made = card.Card(chosen, dataset, mask, facts, measured, written, _versions(), chosen.run.provenance())
        (folder / CARD).write_text(card.text(made))
    return _summary(output, made)


def _dataset(chosen: Chosen, data: str | None) -> DatasetRecord:
    """What the network has to know of the images. Raises InputError if that is not known, or `data` is another's."""
    recorded = chosen.run.dataset()
    if data is None:
        if recorded is None:
            raise InputError(
                f"{chosen.run.describe()}: an earlier version made it, which did not record the dataset's mean and "
                "deviation; give --data DATASET"
            )
        return recorded
    dataset = Dataset.open(data)
    if dataset.content_hash != chosen.origin.dataset_hash:
        raise InputError(
            f"--data {data}: its content hash is {dataset.content_hash[:12]}, and the sweep ran on "
            f"{chosen.origin.dataset_hash[:12]}; give that dataset"
        )
    return record_of(dataset)


def _check_zeros(chosen: Chosen, variables: Mapping[str, NDArray[Any]], mask: Mask) -> None:
    for path, kept in mask.items():
        if path not in variables or variables[path].shape != kept.shape or variables[path][~kept].any():
            raise InputError(
                f"{chosen.run.state_file(chosen.name)[0]}: {path} is not that of the ticket's mask; run the sweep again"
            )


def _ask(
    chosen: Chosen, dataset: DatasetRecord, folder: Path, formats: Sequence[str], compact: bool, data: str | None
) -> Exported:
    """Has a child write the network."""
    answers: list[Exported] = []

    def hear(event: Event) -> None:
        if isinstance(event, Exported):
            answers.append(event)

    request = ExportRequest(
        run=chosen.run.uri,
        training=chosen.name,
        folder=str(folder),
        dataset=dataset,
        data=data,
        formats=tuple(formats),
        compact=compact,
        cores=len(os.sched_getaffinity(0)),
    )
    environment = child_environment(one_gpu(os.environ), request.cores)
    ended = run_child(request, environment, chosen.origin.experiment.gang.hang_after, hear)
    if answers:
        return answers[-1]
    raise_input_error(ended)
    raise InputError(
        f"the process that exports the network ended: {ended.reason}: {ended.message}; check that this environment "
        "imports TensorFlow, and that there is memory enough"
    )


def _check_accuracy(chosen: Chosen, facts: Exported) -> None:
    """Raises InputError if the exported file scores other than the network did in its sweep."""
    recorded = chosen.result.top1
    if facts.top1 is None or recorded is None or facts.top1 == recorded:
        return
    if abs(facts.top1 - recorded) > _TOLERANCE:
        raise InputError(
            f"{chosen.name}: the exported file has top-1 {facts.top1:.4f}, and the sweep recorded {recorded:.4f}; the "
            "software may have changed since: export with the versions that the sweep ran on"
        )
    logger.warning("the exported file has top-1 %.6f here, and the sweep recorded %.6f", facts.top1, recorded)


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _summary(output: str, made: card.Card) -> list[str]:
    result, facts, size = made.chosen.result, made.facts, made.sizes
    top1 = "-" if result.top1 is None else f"{result.top1:.4f}"
    again = (
        "not evaluated again; give --data for that"
        if facts.top1 is None
        else f"{facts.top1:.4f} of the file, on --data"
    )
    kept = f", {result.kept:,} of {result.prunable:,} prunable weights" if isinstance(result, TicketResult) else ""
    lines = [
        f"{made.chosen.name} ({made.chosen.why}): top-1 {top1}{kept}; {again}",
        f"variables: {size.dense:,} bytes dense, {size.sparse:,} sparse, {size.compressed:,} compressed",
        f"multiply-adds: {facts.multiply_adds:,} for an image, {facts.alive_multiply_adds:,} by weights that are not 0",
    ]
    if facts.compact is not None:
        lines.append(card.compact_line(facts.compact, facts))
    return [*lines, f"files: {output}, described in its {CARD}"]
