"""Class folders: `train/<class>/*.JPEG` and `val/<class>/*.JPEG`."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence

from preprocessing.common.errors import InputError
from preprocessing.common.names import is_text, one_line
from preprocessing.common.storage import Entry, Store
from preprocessing.sources.base import (
    TRAIN,
    VAL,
    WHOLE_FILE,
    Catalogue,
    Mapper,
    Row,
    Source,
    check_classes_have_images,
    make_table,
    parse_synset_mapping,
)
from preprocessing.sources.file_names import is_hidden, is_image_name
from preprocessing.sources.listing import Folder, list_folder, walk
from preprocessing.sources.skipped import (
    DEAD_LINK,
    HIDDEN,
    LABELS,
    NO_CLASS_FOLDER,
    NO_FILE,
    NOT_CHOSEN,
    OUTSIDE,
    UNLISTED,
    Skipped,
    why_no_image,
)
from preprocessing.sources.text_files import decode_text

SYNSET_MAPPING = "LOC_synset_mapping.txt"
TINY_LABELS = "val_annotations.txt"
# What people call the folder that is looked for as `val`.
_LIKE_VAL = ("validation", "valid", "validate", "val")


class FolderSource(Source):
    """A class is a folder of `train`; `val` is optional and has no classes of its own."""

    layout = "folders"
    looks_like = "train/<class>/*.JPEG and val/<class>/*.JPEG"
    listed_quickly = True

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._listed: dict[tuple[str, ...], Catalogue] = {}

    @classmethod
    def recognises(cls, store: Store) -> bool:
        """Whether there is a folder `train`."""
        return store.is_folder(TRAIN)

    def classes(self) -> list[str]:
        """The folders of `train`; hidden ones and tools' are none."""
        known = class_folders(self.store, list_folder(self.store, TRAIN))
        if not known:
            raise InputError(f"{self.store.describe(TRAIN)} has no class folders: put images into {TRAIN}/<class>/")
        self._check_val(set(known))
        return known

    def names(self) -> dict[str, str]:
        """Those of Kaggle's file, where it lies beside the folders."""
        try:
            return parse_synset_mapping(decode_text(self.store.read(SYNSET_MAPPING)))
        except FileNotFoundError:
            return {}

    def signature(self, classes: Sequence[str]) -> str:
        """A hash of every image's id and size."""
        digest = hashlib.sha256()
        for name, table in sorted(self.catalogue(classes).splits.items()):
            digest.update(name.encode() + b"\0")
            digest.update("\0".join(table.column("id").to_pylist()).encode())
            digest.update(table.column("length").to_numpy().tobytes())
        return digest.hexdigest()

    def catalogue(self, classes: Sequence[str], mapper: Mapper = map) -> Catalogue:
        """Every image of `classes`, listed once."""
        key = tuple(classes)
        if key not in self._listed:
            self._listed[key] = self._list(classes)
        return self._listed[key]

    def _check_val(self, known: set[str]) -> None:
        where = self.store.describe(VAL)
        root, val = list_folder(self.store), list_folder(self.store, VAL)
        if VAL in root.dead_links:
            raise InputError(f"{where} is a link that leads nowhere: mount what it points at, or remove it")
        if "images" in val.folders and TINY_LABELS in (file.name for file in val.files):
            raise InputError(_convert_tiny(self.store))
        labelled = class_folders(self.store, val)
        unknown = sorted(set(labelled) - known)
        if unknown:
            raise InputError(
                f"{where}/{unknown[0]} is no class of {TRAIN} ({len(unknown)} such): add it there, or remove it"
            )
        images = [file.name for file in val.files if why_no_image(file.name) is None]
        if images and not labelled:
            raise InputError(
                f"{where} holds {len(images):,} images and no class folders, so they have no labels (such as "
                f"{one_line(images[0])}): move them to {VAL}/<class>/, or move {VAL}/ out of the source"
            )
        misnamed = [name for name in root.folders if name != VAL and name.lower() in _LIKE_VAL]
        if misnamed and VAL not in root.folders:
            raise InputError(
                f"{self.store.uri} has no {VAL}/, but {misnamed[0]}/, which would not be read: rename it to {VAL}, or "
                "move it out of the source"
            )

    def _list(self, classes: Sequence[str]) -> Catalogue:
        wanted, skipped = set(classes), Skipped()
        rows: dict[str, list[Row]] = {TRAIN: [], VAL: []}
        val_images: int | None = None
        for folder in walk(self.store, (TRAIN, VAL)):
            split, _, below = folder.path.partition("/")
            name = below.split("/")[0]
            images = images_in(folder, skipped, labels=(SYNSET_MAPPING,))
            if split == VAL and name and not is_hidden(name):
                val_images = (val_images or 0) + len(images)
            if split not in rows:
                skip(folder, images, OUTSIDE, skipped)
            elif not name:
                skip(folder, images, NO_CLASS_FOLDER, skipped)
            elif name not in wanted:
                skip(folder, images, NOT_CHOSEN, skipped)
            else:
                rows[split] += rows_of(folder, images, split, name)
        if not rows[TRAIN]:
            raise InputError(f"{self.store.describe(TRAIN)} holds no images: its class folders have no *.JPEG files")
        if val_images == 0:
            raise InputError(
                f"{self.store.describe(VAL)} holds no images in its class folders: put some there, or remove it"
            )
        check_classes_have_images(
            rows[TRAIN], classes, self.store.describe(TRAIN), "put some into its folder, or remove the folder"
        )
        return Catalogue({split: make_table(found) for split, found in rows.items() if found}, skipped)


def class_folders(store: Store, folder: Folder) -> list[str]:
    """The class folders directly in a folder, sorted; `InputError` for a link where there may have been one."""
    dead = [name for name in folder.dead_links if not is_hidden(name) and not is_image_name(name)]
    if dead:
        where = store.describe(one_line(folder.join(dead[0])))
        raise InputError(
            f"{where} is a link that leads nowhere, and may have been a class: "
            "mount what it points at, or remove the link"
        )
    names = [name for name in folder.folders if not is_hidden(name)]
    for name in names:
        if not is_text(name):
            where = one_line(store.describe(folder.join(name)))
            raise InputError(f"{where}: the name of this class is not UTF-8: rename the folder")
    return names


def images_in(folder: Folder, skipped: Skipped, labels: Sequence[str] = ()) -> list[Entry]:
    """The images of a folder; all else there is counted as skipped. `labels` are paths of files that are read."""
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
    for names, kind in ((folder.dead_links, DEAD_LINK), (folder.special, NO_FILE)):
        for name in names:
            skipped.add(HIDDEN if hidden or is_hidden(name) else kind, folder.join(name))
    return images


def rows_of(folder: Folder, images: Sequence[Entry], parent: str, name: str) -> list[Row]:
    """The rows of images in a folder at or below `parent`/`name`."""
    above = len(parent) + 1
    paths = [folder.join(image.name) for image in images]
    return [(path[above:], name, path, WHOLE_FILE, image.size) for path, image in zip(paths, images, strict=True)]


def skip(folder: Folder, images: Sequence[Entry], reason: str, skipped: Skipped) -> None:
    """Counts all of the images as skipped."""
    if images:
        skipped.add(reason, folder.join(images[0].name), len(images))


def _convert_tiny(store: Store) -> str:
    command = (
        f'cd {shlex.quote(store.describe(VAL))} && while read -r image class rest; do mkdir -p "$class" && '
        f'mv "images/$image" "$class/"; done < {TINY_LABELS} && rmdir images'
    )
    return (
        f"{store.describe()} is in Tiny ImageNet's layout, with the labels of val in {VAL}/{TINY_LABELS}, which is not "
        f"read yet: sort val into class folders first: {command}"
    )
