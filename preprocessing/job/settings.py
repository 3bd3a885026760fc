"""The settings of a dataset, and the fingerprint by which a job recognises its own earlier work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import msgspec

from preprocessing.common.errors import InputError
from preprocessing.dataset.manifest import FORMAT, VERSION
from preprocessing.dataset.schema import CODECS, ROW_GROUP_ROWS, Codec, blob_bytes
from preprocessing.images.decode import DECODER_VERSION

MAX_SIZE = 4096
# Numbers must fit into 64 bits, for JSON readers and Arrow.
_LIMIT = 1 << 63
# The values that each option accepts, for error messages.
RANGES = {
    "--size": f"1 to {MAX_SIZE} pixels",
    "--codec": " or ".join(CODECS),
    "--quality": "1 to 100",
    "--seed": "a whole number from -2^63 to 2^64 - 1",
    "--classes": "1 or more, or names with commas between",
    "--images-per-class": "1 or more, below 2^63",
    "--holdout": "a fraction from 0 to below 1, or a whole number of images",
    "--rows-per-shard": "1 or more, below 2^63",
    "--rows-per-row-group": "1 or more",
    "--max-rejected": "a fraction from 0 to 1",
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that, with the source, determines every byte of a dataset.

    `classes` is a number or names, `holdout` a fraction below 1 or a number of images. If `rows_per_shard` is None, it
    follows from the number of images.
    """

    size: int = 256
    codec: Codec = "tensor"
    quality: int = 95
    seed: int = 0
    classes: int | tuple[str, ...] | None = None
    images_per_class: int | None = None
    holdout: float = 0.0
    rows_per_shard: int | None = None
    row_group_rows: int = ROW_GROUP_ROWS

    def check(self) -> None:
        """Raises `InputError` for a value out of range, with the name of its option."""
        _need(1 <= self.size <= MAX_SIZE, "--size", self.size)
        _need(self.codec in CODECS, "--codec", self.codec)
        _need(1 <= self.quality <= 100, "--quality", self.quality)
        _need(-_LIMIT <= self.seed < 2 * _LIMIT, "--seed", self.seed)
        _need(not isinstance(self.classes, int) or self.classes > 0, "--classes", self.classes)
        for option, count in (("--images-per-class", self.images_per_class), ("--rows-per-shard", self.rows_per_shard)):
            _need(count is None or 0 < count < _LIMIT, option, count)
        whole = 1 <= self.holdout < _LIMIT and self.holdout == int(self.holdout)
        _need(0 <= self.holdout < 1 or whole, "--holdout", self.holdout)
        _need(self.row_group_rows > 0, "--rows-per-row-group", self.row_group_rows)
        # A page's size is a 32-bit number in Parquet, and a row group is held in memory.
        group = self.row_group_rows * blob_bytes(self.size)
        if group > 1 << 28:
            raise InputError(
                f"--rows-per-row-group {self.row_group_rows} at --size {self.size} is {group >> 20} MiB a row group, "
                f"more than 256: ask for {(1 << 28) // blob_bytes(self.size)} or fewer"
            )

    def as_dict(self) -> dict[str, Any]:
        """The settings, as in JSON."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def job_fingerprint(signature: str, settings: Settings) -> str:
    """sha256 (hex) of the source's signature and the settings: names what a job will make before it reads an image."""
    identity = {
        "format": [FORMAT, VERSION],
        "decoder": DECODER_VERSION,
        "source": signature,
        "settings": settings.as_dict(),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def check_max_rejected(fraction: float) -> None:
    """Raises `InputError` for a value that is not a fraction."""
    _need(0 <= fraction <= 1, "--max-rejected", fraction)


def parse_number(option: str, kind: Callable[[str], float]) -> Callable[[str], float]:
    """A parser of the option's value. Text that is not a number raises `InputError`, as a number out of range does."""

    def parse(text: str) -> float:
        try:
            return kind(text)
        except ValueError:
            raise out_of_range(option, text) from None

    return parse


def out_of_range(option: str, value: object) -> InputError:
    """The error for a value that an option does not accept."""
    return InputError(f"{option} {value}: give {RANGES[option]}")


def _need(valid: bool, option: str, value: object) -> None:
    if not valid:
        raise out_of_range(option, value)
