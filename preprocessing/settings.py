"""What a user can ask of a dataset, and the hash by which a job recognises its own earlier work."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

from preprocessing.errors import InputError
from preprocessing.images import DECODER_VERSION
from preprocessing.manifest import FORMAT, VERSION
from preprocessing.schema import CODECS, ROW_GROUP_ROWS, Codec, blob_bytes

MAX_SIZE = 4096


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that, with the source, decides every byte of a dataset.

    `classes` is a number or names, `holdout` a fraction below 1 or a number of images, `rows_per_shard` is chosen from
    the size of the split where it is None.
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
        """Raises `InputError` for a value out of range, in the words of the command line."""
        _need(1 <= self.size <= MAX_SIZE, "--size", self.size, f"1 to {MAX_SIZE} pixels")
        _need(self.codec in CODECS, "--codec", self.codec, " or ".join(CODECS))
        _need(1 <= self.quality <= 100, "--quality", self.quality, "1 to 100")
        _need(self.classes is None or self.classes != 0, "--classes", 0, "1 or more, or names")
        _need(not isinstance(self.classes, int) or self.classes > 0, "--classes", self.classes, "1 or more, or names")
        _need(
            self.images_per_class is None or self.images_per_class > 0,
            "--images-per-class",
            self.images_per_class,
            "1 or more",
        )
        valid = 0 <= self.holdout < 1 or (self.holdout >= 1 and self.holdout == int(self.holdout))
        _need(valid, "--holdout", self.holdout, "a fraction below 1, or a number of images")
        _need(
            self.rows_per_shard is None or self.rows_per_shard > 0, "--rows-per-shard", self.rows_per_shard, "1 or more"
        )
        _need(self.row_group_rows > 0, "--rows-per-row-group", self.row_group_rows, "1 or more")
        # A page's size is a 32-bit number in Parquet, and a row group is held in memory.
        group = self.row_group_rows * blob_bytes(self.size)
        if group > 1 << 28:
            raise InputError(
                f"--rows-per-row-group {self.row_group_rows} at --size {self.size} is {group >> 20} MiB a row group, "
                f"more than 256: ask for {(1 << 28) // blob_bytes(self.size)} or fewer"
            )

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def fingerprint(signature: str, settings: Settings) -> str:
    """sha256 (hex) of what a job will make, known before an image is read: the source's signature and the settings."""
    identity = {
        "format": [FORMAT, VERSION],
        "decoder": DECODER_VERSION,
        "source": signature,
        "settings": settings.as_dict(),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _need(valid: bool, option: str, value: object, wanted: str) -> None:
    if not valid:
        raise InputError(f"{option} {value}: give {wanted}")
