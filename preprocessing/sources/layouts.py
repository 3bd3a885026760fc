"""Which layout a source is in."""

from __future__ import annotations

from preprocessing.common.errors import InputError
from preprocessing.common.storage import Store
from preprocessing.sources.base import Source
from preprocessing.sources.folders import FolderSource
from preprocessing.sources.kaggle import KaggleSource
from preprocessing.sources.listing import list_folder
from preprocessing.sources.official_tar import TarSource, compressed_archive

# In the order in which they are tried.
LAYOUTS: tuple[type[Source], ...] = (TarSource, KaggleSource, FolderSource)
NAMES = tuple(kind.layout for kind in LAYOUTS)


def open_source(store: Store, layout: str | None = None) -> Source:
    """The source at `store` in the layout named, or in the one it is seen to be in; `InputError` where in none."""
    if not store.is_folder():
        raise InputError(f"--source {store.uri} does not exist: give the folder or URI with the raw images")
    if layout is not None:
        if layout not in NAMES:
            raise InputError(f"--layout {layout}: known are {', '.join(NAMES)}")
        return next(kind for kind in LAYOUTS if kind.layout == layout)(store)
    for kind in LAYOUTS:
        if kind.recognises(store):
            return kind(store)
    found = list_folder(store)
    packed = compressed_archive([file.name for file in found.files])
    if packed:
        raise InputError(f"{store.describe()}/{packed}")
    seen = sorted(
        [f"{name}/" for name in found.folders]
        + [file.name for file in found.files]
        + [f"{name} (a link that leads nowhere)" for name in found.dead_links]
    )
    holds = f"it holds {', '.join(seen[:5])}{' ...' if len(seen) > 5 else ''}" if seen else "it is empty"
    expected = "; or ".join(kind.looks_like for kind in LAYOUTS)
    raise InputError(f"--source {store.uri} is in no known layout, {holds}; expected {expected}")
