"""Writes a trained network's files into a local folder, and looks whether they compute what the network did."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from lottery.experiment.config import Experiment
from lottery.input import augment
from lottery.input.evaluation_batches import EvaluationInput
from lottery.models import build, compact, fingerprint, standalone
from lottery.protocol import CompactFacts, Exported, ExportRequest, Progress, Report
from lottery.run import blobs, provenance
from lottery.run.dataset_record import DatasetRecord
from lottery.run.run_directory import RunDirectory
from lottery.training import scores
from lottery.training.state import SEED_GENERATOR
from lottery.worker import devices, speed
from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from preprocessing.dataset.opening import Dataset

logger = logging.getLogger(__name__)

_RANDOM_IMAGES = 64
_LARGEST_DIFFERENCE = 1e-5  # of a compact network's outputs, as a share of the largest output if that is above 1
_ROUNDING = 1e-6  # of a file that is read back, likewise
# The order of a kernel's axes, and its name in other frameworks' words.
_LAYOUTS: tuple[tuple[Any, str], ...] = (
    (keras.layers.DepthwiseConv2D, "height, width, in, multiplier"),
    (keras.layers.DepthwiseConv1D, "length, in, multiplier"),
    (keras.layers.Conv2DTranspose, "height, width, out, in"),
    (keras.layers.Conv1D, "length, in, out"),
    (keras.layers.Conv2D, "height, width, in, out"),
    (keras.layers.Conv3D, "depth, height, width, in, out"),
    (keras.layers.Dense, "in, out"),
)


@dataclass(frozen=True)
class _Export:
    """A trained network on its way into files."""

    request: ExportRequest
    report: Report
    experiment: Experiment
    state: Mapping[str, NDArray[Any]]  # variables by path

    @property
    def folder(self) -> Path:
        return Path(self.request.folder)

    def network(self, precision: str) -> keras.Model:
        """The trained network, for normalised images."""
        return trained_network(self.experiment, self.request.dataset, self.state, precision)

    def whole(self, network: keras.Model) -> keras.Model:
        """The network with what raw images need before it."""
        dataset = self.request.dataset
        side = augment.side(self.experiment.data, dataset.size)
        return standalone.standalone(network, dataset.size, side, dataset.mean, dataset.std)

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """Images to compare outputs on: random ones, and the first of the evaluation split if there is a dataset."""
        shape = (_RANDOM_IMAGES, *(self.request.dataset.size,) * 2, 3)
        found = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        if self.evaluation is None:
            return found
        batches = self.evaluation.batches()
        real, _ = next(batches)
        batches.close()
        return np.concatenate([found, real[:_RANDOM_IMAGES]])

    @cached_property
    def evaluation(self) -> EvaluationInput | None:
        """The split that the recorded accuracy is of, not cropped; None if there is no dataset to read it from."""
        if self.request.data is None:
            return None
        settings, limit = self.experiment.input, self.experiment.training.evaluate_batches
        data = replace(self.experiment.data, crop=None, pad=0, crop_scale=None)
        return EvaluationInput(Dataset.open(self.request.data), data, settings, limit=limit)


def trained_network(
    experiment: Experiment, dataset: DatasetRecord, state: Mapping[str, NDArray[Any]], precision: str
) -> keras.Model:
    """The experiment's model with a state's weights and statistics, arrays by path; for normalised images.

    Raises InputError if the state is of another model.
    """
    model, shape = experiment.model, augment.image_shape(experiment.data, dataset.size)
    network = build.build(model, shape, len(dataset.classes), experiment.seed, precision, again=True)
    for variable in network.variables:
        value = state.get(variable.path)
        if value is None or value.shape != tuple(variable.shape):
            raise InputError(
                f"model {model.name}: has {variable.path} of shape {tuple(variable.shape)}, and the saved state has "
                "not; restore the model as it was trained"
            )
        variable.assign(value)
    return network


def export_training(request: ExportRequest, report: Report) -> Exported:
    """Writes what is asked for into the folder. Returns what the network is, and what was measured.

    Raises InputError if the model has changed since it was trained, if a file does not compute what the network does,
    or if the network's channels cannot be followed.
    """
    run = RunDirectory(open_store(request.run), read_only=True)
    experiment = run.origin().experiment
    devices.configure(request.cores, experiment.training.deterministic)
    saved = run.needed_checkpoint(request.training)
    export = _Export(request, report, experiment, saved.variables)
    network = export.network(experiment.training.precision)
    _check_model(run, network, experiment)
    foreign = standalone.foreign_classes(network)
    top1 = None
    if "keras" in request.formats:
        written = _written(export, export.whole(network), "ticket.keras", foreign)
        top1 = _accuracy(export, written)
    if "safetensors" in request.formats:
        _write_safetensors(export, network, "weights", {})
    facts = _compact(export, network, foreign) if request.compact else None
    return Exported(
        parameters=int(network.count_params()),
        multiply_adds=build.multiply_adds(network),
        alive_multiply_adds=build.multiply_adds(network, lambda kernel: int(np.count_nonzero(np.asarray(kernel)))),
        layouts=_layouts(network, {}),
        foreign=tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in foreign),
        device=devices.hardware(request.cores),
        top1=top1,
        compact=facts,
    )


def _check_model(run: RunDirectory, network: keras.Model, experiment: Experiment) -> None:
    """Raises InputError if the model is not the one that was trained; warns of other versions of the software."""
    recorded = run.provenance()
    if experiment.training.synchronized_batch_norm:  # which is a part of the fingerprint
        build.synchronize_batch_norm(network)
    if recorded is not None:
        changes = provenance.changes(recorded, fingerprint.provenance(network), experiment.model.name)
        if changes:
            logger.warning(changes)
    build.synchronize_batch_norm(network, synchronized=False)


def _written(export: _Export, model: keras.Model, name: str, foreign: list[type]) -> keras.Model:
    """Saves a model, and reads the file as anyone would. Raises InputError if that computes something else."""
    path = export.folder / name
    try:
        model.save(path)
        read: keras.Model = keras.saving.load_model(path, custom_objects={kind.__name__: kind for kind in foreign})
        difference = _difference(_outputs(model, export.images), _outputs(read, export.images))
    except Exception as error:  # a user's class may raise anything
        first = (str(error).strip().splitlines() or [""])[0]
        raise InputError(
            f"model {export.experiment.model.name}: cannot be saved and opened as a .keras file ({first}); give its "
            "classes a get_config, or export with --format safetensors"
        ) from None
    if not difference <= _ROUNDING:
        raise InputError(
            f"model {export.experiment.model.name}: its .keras file computes something else; a get_config of its "
            "classes leaves something out: correct it, or export with --format safetensors"
        )
    export.report(Progress(0))
    return read


def _accuracy(export: _Export, model: keras.Model) -> float | None:
    """The top-1 accuracy of a model on the raw images of the evaluation split."""
    if export.evaluation is None:
        return None
    total, compute = np.zeros(4), speed.compiled(model)
    for images, labels in export.evaluation.batches():
        sums, _ = scores.sums(compute(images), labels)
        total += sums.numpy()
        export.report(Progress(len(images)))
    return scores.means(total).top1


def _compact(export: _Export, network: keras.Model, foreign: list[type]) -> CompactFacts:
    """Writes the network without the channels that nothing reads or feeds, and compares it with the whole one."""
    name = export.experiment.model.name
    exact = network if export.experiment.training.precision == "float32" else export.network("float32")
    small = smaller = compact.compacted(exact, name)
    whole, ours = export.whole(exact), export.whole(small)
    difference = _difference(_outputs(whole, export.images), _outputs(ours, export.images))
    if not difference <= _LARGEST_DIFFERENCE:
        raise InputError(
            f"--compact: the outputs of model {name} change by {difference:.1e} of the largest one; leave --compact out"
        )
    if exact is not network:
        network = export.network(export.experiment.training.precision)
        small = compact.compacted(network, name)
        whole, ours = export.whole(network), export.whole(small)
    if "keras" in export.request.formats:
        _written(export, ours, "compact.keras", foreign)
    if "safetensors" in export.request.formats:
        _write_safetensors(export, small, "compact", _paths_of_whole(small, network))
    batch = export.images[: speed.BATCH]
    before, after = speed.images_per_second([whole, ours], batch, lambda: export.report(Progress(0)))
    channels_before, channels = compact.channels_left(exact, smaller)
    return CompactFacts(
        channels=channels,
        channels_before=channels_before,
        parameters=int(smaller.count_params()),
        multiply_adds=build.multiply_adds(smaller),
        difference=difference,
        compared=len(export.images),
        images_per_second=after,
        images_per_second_before=before,
        batch=len(batch),
    )


def _write_safetensors(export: _Export, network: keras.Model, name: str, paths: Mapping[int, str]) -> None:
    """Writes a network's variables, and its structure as Keras describes it, if it can.

    Args:
        paths: of the variables, by their ids; without one a variable has its own.
    """
    arrays = {
        paths.get(id(each), each.path): np.asarray(each) for each in network.variables if each.name != SEED_GENERATOR
    }
    dataset, layouts = export.request.dataset, _layouts(network, paths)
    side = augment.side(export.experiment.data, dataset.size)
    prepared = {"size": dataset.size, "crop": side, "mean": dataset.mean, "std": dataset.std}
    packed = blobs.pack(arrays, {"layouts": json.dumps(layouts), "input": json.dumps(prepared)})
    (export.folder / f"{name}.safetensors").write_bytes(packed)
    try:
        structure = json.loads(network.to_json())
    except (NotImplementedError, TypeError, ValueError):  # a class without a get_config
        logger.warning("model %s does not describe its structure: %s-architecture.json is left out", network.name, name)
        return
    (export.folder / f"{name}-architecture.json").write_text(json.dumps(structure, indent=1))


def _paths_of_whole(compact: keras.Model, whole: keras.Model) -> dict[int, str]:
    """For a compact network's variables, by their ids, the paths that they have in the whole one."""
    folders = {layer.name: each.path.rpartition("/")[0] for layer in build.layers(whole) for each in layer.variables}
    return {
        id(each): f"{folders[layer.name]}/{each.name}"
        for layer in build.layers(compact)
        if layer.name in folders and not isinstance(layer, keras.Model)
        for each in layer.variables
    }


def _layouts(network: keras.Model, paths: Mapping[int, str]) -> dict[str, str]:
    """The order of each kernel's axes, by path."""
    found = {}
    for layer in build.layers(network):
        words = next((words for kind, words in _LAYOUTS if isinstance(layer, kind)), None)
        if words is not None:
            found[paths.get(id(layer.kernel), layer.kernel.path)] = words
    return found


def _outputs(model: keras.Model, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The logits of all images, which are computed a few at a time."""
    compute = speed.compiled(model)
    parts = np.array_split(images, -(-len(images) // speed.BATCH))
    return np.concatenate([np.asarray(compute(part), np.float32) for part in parts])


def _difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The largest difference, as a share of the largest output if that is above 1; NaN if one is not finite."""
    return float(np.abs(one - other).max() / max(1.0, float(np.abs(one).max())))
