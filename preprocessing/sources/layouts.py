"""The layouts that a source can have, and which one it has."""

from __future__ import annotations

from preprocessing.common.errors import InputError
from preprocessing.common.storage import Store
from preprocessing.sources.base import Source
from preprocessing.sources.folders import FolderSource
from preprocessing.sources.kaggle import KaggleSource
from preprocessing.sources.listing import Folder, list_folder, walk
from preprocessing.sources.official_tar import TarSource

# In the order in which they are tried. A new layout is a file with a `Source`, and its name here.
LAYOUTS: tuple[type[Source], ...] = (
    TarSource,
    KaggleSource,
    FolderSource,
)
NAMES = tuple(kind.layout for kind in LAYOUTS)


def open_source(store: Store, layout: str | None = None) -> Source:
    """The source at `store` in the layout named, or in the first that recognises it; `InputError` if none does."""
    if not store.is_folder():
        raise InputError(f"--source {store.describe()} does not exist: give the folder or URI with the raw images")
    if layout is not None:
        if layout not in NAMES:
            raise InputError(f"--layout {layout}: give one of {', '.join(NAMES)}")
        return next(kind for kind in LAYOUTS if kind.layout == layout)(store)
    for kind in LAYOUTS:
        if kind.recognises(store):
            return kind(store)
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
