"""The images of a folder, as rows of the catalogue or counted as skipped."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa

from preprocessing.common.errors import InputError
from preprocessing.common.names import is_text, one_line
from preprocessing.common.storage import Entry, Store
from preprocessing.sources.base import WHOLE_FILE, table_of
from preprocessing.sources.file_names import is_hidden, is_image_name
from preprocessing.sources.listing import Folder, walk
from preprocessing.sources.skipped import (
    DEAD_LINK,
    EMPTY_NAME,
    HIDDEN,
    LABELS,
    NO_FILE,
    OUTSIDE,
    UNLISTED,
    Skipped,
    why_no_image,
)


def class_folders(store: Store, folder: Folder) -> list[str]:
    """The class folders directly in a folder, sorted; `InputError` for a dead link that may have been one."""
    dead = [name for name in folder.dead_links if not is_hidden(name) and not is_image_name(name)]
    if dead:
        raise InputError(
            f"{one_line(store.describe(folder.join(dead[0])))} is a dead link that may have been a class: "
            "mount its target, or remove the link"
        )
    names = [name for name in folder.folders if not is_hidden(name)]
    for name in names:
        if not is_text(name):
            where = one_line(f"{store.describe(folder.join(name))}")
            raise InputError(f"{where}: this class name is not UTF-8: rename the folder")
    return names


def take_images(folder: Folder, skipped: Skipped, labels: Sequence[str] = ()) -> list[Entry]:
    """The images of a folder; its other files are counted as skipped. `labels` are paths of files that are read."""
    hidden = is_hidden(folder.path)
    images = []
    for file in folder.files:
        reason = HIDDEN if hidden else why_no_image(file.name)
        if reason is None:
            images.append(file)
        else:
            path = folder.join(file.name)
            skipped.add(LABELS if path in labels else reason, path)
    if folder.problem:
        skipped.add(HIDDEN if hidden else UNLISTED, folder.path)
    for names, kind in ((folder.dead_links, DEAD_LINK), (folder.special, NO_FILE), (folder.nameless, EMPTY_NAME)):
        for name in names:
            skipped.add(HIDDEN if hidden or is_hidden(name) else kind, folder.join(name))
    return images


def image_table(folder: Folder, images: Sequence[Entry], parent: str, name: str) -> pa.Table:
    """The catalogue's rows for images of class `name` in a folder at or below `name` in `parent` ("" is the root)."""
    above = len(parent) + 1 if parent else 0
    paths = [folder.join(image.name) for image in images]
    return table_of(
        (path[above:], name, path, WHOLE_FILE, image.size) for path, image in zip(paths, images, strict=True)
    )


def skip_images(folder: Folder, images: Sequence[Entry], reason: str, skipped: Skipped) -> None:
    """Counts images of a folder as skipped."""
    if images:
        skipped.add(reason, folder.join(images[0].name), len(images))


def skip_unread(store: Store, read: Collection[str], skipped: Skipped, labels: Sequence[str] = ()) -> None:
    """Counts every file but those that are `read` as skipped. `labels` are paths of files with labels or names."""
    for folder in walk(store, ()):
        others = [file for file in folder.files if folder.join(file.name) not in read]
        folder = folder._replace(files=others)
        skip_images(folder, take_images(folder, skipped, labels), OUTSIDE, skipped)
