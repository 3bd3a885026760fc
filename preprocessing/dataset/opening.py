"""Opening a dataset to train on it."""

from __future__ import annotations

from preprocessing.common.errors import InputError
from preprocessing.common.retries import patiently
from preprocessing.common.storage import Store, open_store
from preprocessing.dataset.manifest import MANIFEST, Manifest, SplitInfo, read_manifest
from preprocessing.dataset.row_groups import Reading
from preprocessing.dataset.schema import Codec
from preprocessing.dataset.split import Split

__all__ = ["Dataset", "Reading", "Split", "SplitInfo"]


class Dataset:
    """A finished dataset. Opening it reads `manifest.json` and nothing else.

    `content_hash` is a sha256 (hex). `class_names` are sorted, and a label is an index into them. `mean` and
    `std` are of train's pixels per channel, in 0..255. `bytes` is the size of all splits' files.
    """

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self.manifest = manifest
        self.uri: str = store.uri
        self.content_hash: str = manifest.hash
        self.size: int = manifest.size
        self.codec: Codec = manifest.codec
        self.class_names: list[str] = manifest.classes
        self.splits: dict[str, SplitInfo] = manifest.splits
        self.mean: tuple[float, float, float] = manifest.mean
        self.std: tuple[float, float, float] = manifest.std
        self.bytes: int = sum(file.bytes for split in manifest.splits.values() for file in split.files)
        self._store = store

    @classmethod
    def open(cls, uri: str) -> Dataset:
        """The dataset at a path or URI; `InputError` if there is none, or only part of one.

        Remote storage that fails is tried again for a minute or so: a training process begins with this.
        """
        store = open_store(uri)
        manifest = patiently(lambda: read_manifest(store), store)
        if manifest is None:
            what = f"has no {MANIFEST}" if patiently(store.is_folder, store) else "does not exist"
            remedy = f"make one with jobs/preprocess.py --output {uri}"
            raise InputError(f"{store.describe()} is not a dataset: it {what}; {remedy}")
        return cls(store, manifest)

    def describe(self) -> str:
        """Where it lies, for people: without the settings that a URI may end in."""
        return self._store.describe()

    def split(self, name: str, reading: Reading | None = None) -> Split:
        """The split of that name, read as `reading` says. `InputError` for another name lists the splits."""
        if name not in self.splits:
            raise InputError(f"{self._store.describe()} has no split {name!r}; it has {', '.join(sorted(self.splits))}")
        return Split(self._store, name, self.manifest, reading)
