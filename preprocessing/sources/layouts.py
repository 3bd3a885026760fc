"""The layouts that a source can have, and which one it has."""

from __future__ import annotations

from dataclasses import replace

from preprocessing.common.errors import InputError
from preprocessing.common.storage import Store, open_store
from preprocessing.sources.base import NO_OPTIONS, Source, SourceOptions
from preprocessing.sources.braces import split_braces
from preprocessing.sources.cifar import CifarSource
from preprocessing.sources.folders import FolderSource
from preprocessing.sources.hub_parquet import HubParquetSource
from preprocessing.sources.idx import IdxSource
from preprocessing.sources.kaggle import KaggleSource
from preprocessing.sources.listing import Folder, list_folder, walk
from preprocessing.sources.official_tar import TarSource
from preprocessing.sources.shards import ShardSource
from preprocessing.sources.tfrecord import TFRecordSource
from preprocessing.sources.tiny_imagenet import TinyImageNetSource
from preprocessing.sources.webdataset import WebDatasetSource

# In the order in which they are tried. A new layout is a file with a `Source`, and its name here.
LAYOUTS: tuple[type[Source], ...] = (
    TarSource,
    KaggleSource,
    TinyImageNetSource,
    IdxSource,
    CifarSource,
    TFRecordSource,
    WebDatasetSource,
    HubParquetSource,
    FolderSource,
)
NAMES = tuple(kind.layout for kind in LAYOUTS)


def open_source(store: Store, layout: str | None = None, options: SourceOptions = NO_OPTIONS) -> Source:
    """The source at `store` in the layout named, or in the first that recognises it; `InputError` if none does.

    Raises `InputError`, too, for an option that the layout does not take.
    """
    if not store.is_folder():
        raise InputError(f"--source {store.describe()} does not exist: give the folder or URI with the raw images")
    kind = _kind(store, layout)
    for option, value in options.given().items():
        if option not in kind.takes:
            others = ", ".join(other.layout for other in LAYOUTS if option in other.takes)
            raise InputError(f"{option} {value}: only for layout {others}, and the source has layout {kind.layout}")
    return kind(store, options)


def locate_source(source: str, layout: str | None = None, options: SourceOptions = NO_OPTIONS) -> Source:
    """As `open_source`, for a folder or URI, or for files that are named with braces."""
    braces = split_braces(source)
    if braces is None:
        return open_source(open_store(source), layout, options)
    folder, files = braces
    kinds = [kind for kind in LAYOUTS if issubclass(kind, ShardSource) and all(map(kind.is_shard, files))]
    if not kinds or layout not in (None, kinds[0].layout):
        shards = " or ".join(kind.looks_like for kind in LAYOUTS if issubclass(kind, ShardSource))
        raise InputError(f"--source {source}: braces can only name {shards}: give a folder for other layouts")
    return open_source(open_store(folder), kinds[0].layout, replace(options, files=files))


def source_store(source: str) -> Store:
    """The store of a folder or URI, or of the folder with files that are named with braces. Nothing is read yet."""
    braces = split_braces(source)
    return open_store(source if braces is None else braces[0])


def _kind(store: Store, layout: str | None) -> type[Source]:
    if layout is not None:
        if layout not in NAMES:
            raise InputError(f"--layout {layout}: give one of {', '.join(NAMES)}")
        return next(kind for kind in LAYOUTS if kind.layout == layout)
    for kind in LAYOUTS:
        if kind.recognises(store):
            return kind
    raise _unrecognised(store)


def _unrecognised(store: Store) -> InputError:
    found = list_folder(store)
    if not any(found[1:]):
        next(walk(store, ()))  # raises if all objects of a bucket have names with an empty part
    for kind in LAYOUTS:
        problem = kind.near_miss([file.name for file in found.files])
        if problem:
            return InputError(store.describe(problem))
    expected = "; or ".join(kind.looks_like for kind in LAYOUTS)
    return InputError(f"--source {store.describe()} has no known layout, {_contents(found)}; expected {expected}")


def _contents(found: Folder) -> str:
    names = sorted(
        [f"{name}/" for name in found.folders]
        + [file.name for file in found.files]
        + [f"{name} (a dead link)" for name in found.dead_links]
    )
    return f"it holds {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}" if names else "it is empty"
