"""`experiment.yaml` of a run directory: whose results lie in it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lottery.experiment import config
from lottery.experiment.config import Experiment
from lottery.experiment.steps import Timeline, timeline
from preprocessing.common.errors import InputError

REMEDY = "restore it, or delete it, and the same command writes it again; or choose another --runs"


@dataclass(frozen=True)
class Origin:
    """An experiment and the dataset that it ran on."""

    experiment: Experiment
    dataset_hash: str
    train_images: int

    @property
    def identity(self) -> str:
        """The experiment's identity on the dataset."""
        return config.identity(self.experiment, self.dataset_hash)

    @property
    def timeline(self) -> Timeline:
        """The experiment's steps."""
        return timeline(self.experiment, self.train_images)

    @property
    def reset_points(self) -> dict[int, str]:
        """The steps of the trellis, each with its name in the experiment, such as `400` or `0.5ep`."""
        return {step: str(point) for step, point in zip(self.timeline.trellis, self.experiment.trellis, strict=True)}


class _Record(msgspec.Struct, frozen=True):
    identity: str
    dataset_hash: str
    train_images: int
    experiment: dict[str, Any]


def encode(origin: Origin) -> bytes:
    """The YAML of an origin, with its identity."""
    tree = config.to_tree(origin.experiment)
    record = _Record(origin.identity, origin.dataset_hash, origin.train_images, tree)
    return text(msgspec.to_builtins(record)).encode()


def text(tree: dict[str, Any]) -> str:
    """Plain dicts, lists and values as YAML."""
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(tree, stream)
    return stream.getvalue()


def decode(blob: bytes, name: str) -> Origin:
    """The origin in a YAML of `encode`. Raises InputError, which calls the file `name`, if it is damaged or changed."""
    try:
        record = msgspec.convert(YAML(typ="safe", pure=True).load(blob.decode()), _Record)
    except (msgspec.ValidationError, YAMLError, UnicodeDecodeError):
        raise InputError(f"{name} is damaged, or not of this suite; {REMEDY}") from None
    origin = Origin(config.from_tree(record.experiment, name), record.dataset_hash, record.train_images)
    if origin.identity != record.identity:
        raise InputError(
            f"{name} was changed by hand, or is damaged: its experiment is not the {record.identity} that it names; "
            f"{REMEDY}"
        )
    return origin
