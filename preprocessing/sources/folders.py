"""Class folders: `train/<class>/*.JPEG` and `val/<class>/*.JPEG`, or `<class>/*.JPEG` alone."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

import pyarrow as pa

from preprocessing.common.errors import InputError
from preprocessing.common.names import one_line
from preprocessing.common.storage import Store
from preprocessing.sources.base import (
    NO_OPTIONS,
    TRAIN,
    VAL,
    Catalogue,
    SourceOptions,
    check_classes_have_images,
    sort_table,
)
from preprocessing.sources.file_names import is_hidden
from preprocessing.sources.folder_images import class_folders, image_table, skip_images, take_images
from preprocessing.sources.listed_source import SYNSET_MAPPING, ListedSource
from preprocessing.sources.listing import Folder, list_folder, walk
from preprocessing.sources.skipped import NO_CLASS_FOLDER, NOT_CHOSEN, OUTSIDE, Skipped, why_no_image

logger = logging.getLogger(__name__)

TINY_LABELS = "val_annotations.txt"
# Other names, in lower case, that people have for the folder `val`.
_LIKE_VAL = ("val", "valid", "validate", "validation")
TEST = "test"
# Class folders that are looked into to tell whether they are.
_SAMPLE = 3


class FolderSource(ListedSource):
    """A class is a folder of `train`, or of the root if there is no `train`.

    `val` is optional; each of its classes has to be in `train`. It may also be named `validation`, `valid`, `validate`
    or, if there is none of these, `test`.
    """

    layout = "folders"
    looks_like = "train/<class>/*.JPEG and val/<class>/*.JPEG, or <class>/*.JPEG"

    def __init__(self, store: Store, options: SourceOptions = NO_OPTIONS) -> None:
        super().__init__(store, options)
        self._root = list_folder(store)
        self._train = TRAIN if store.is_folder(TRAIN) else ""

    @classmethod
    def recognises(cls, store: Store) -> bool:
        """Whether there is a folder `train`; or else two class folders or more, and no folder named like a split."""
        if store.is_folder(TRAIN):
            return True
        root = list_folder(store)
        known = [name for name in root.folders if not is_hidden(name)]
        if len(known) < 2 or any(name.lower() in (*_LIKE_VAL, TRAIN, TEST) for name in known):
            return False
        return all(_has_images(list_folder(store, name)) for name in known[:_SAMPLE])

    def classes(self) -> list[str]:
        """The class folders, except hidden ones and those of tools."""
        known = class_folders(self.store, list_folder(self.store, self._train))
        if not known:
            where = self.store.describe(self._train)
            raise InputError(f"{where} has no class folders: put the images into {TRAIN}/<class>/")
        self._check_val(set(known))
        return known

    @functools.cached_property
    def _val(self) -> str | None:
        """The folder of val; None if there is none."""
        if not self._train:
            return None
        found = [name for name in self._root.folders if name.lower() in _LIKE_VAL]
        if VAL in found:
            return VAL
        if len(found) > 1:
            raise InputError(
                f"{self.store.describe()} holds {' and '.join(found)}, and only one of them can be val: rename it to "
                f"{VAL}"
            )
        if not found and TEST in self._root.folders and self._labels_test():
            found = [TEST]
        if not found:
            return None
        logger.info("%s has no folder %s: val is %s", self.store.describe(), VAL, found[0])
        return found[0]

    def _labels_test(self) -> bool:
        """Whether a folder of `test` is a class: as a rule test images have no labels."""
        return not set(list_folder(self.store, TEST).folders).isdisjoint(list_folder(self.store, TRAIN).folders)

    def _check_val(self, known: set[str]) -> None:
        """Raises `InputError` if val exists, but would be ignored or wrongly labelled."""
        if self._train and VAL in self._root.dead_links:
            raise InputError(f"{self.store.describe(VAL)} is a dead link: mount its target, or remove it")
        if self._val is None:
            return
        where, val = self.store.describe(self._val), list_folder(self.store, self._val)
        if "images" in val.folders and TINY_LABELS in (file.name for file in val.files):
            raise InputError(f"{self.store.describe()} is in Tiny ImageNet's layout: leave out --layout {self.layout}")
        labelled = class_folders(self.store, val)
        unknown = sorted(set(labelled) - known)
        if unknown:
            more = f", and {len(unknown) - 1:,} more like it" if len(unknown) > 1 else ""
            raise InputError(f"{where}/{unknown[0]} is not a class of {TRAIN}{more}: add it there, or remove it")
        _check_labelled(where, val, labelled)

    def _list(self, classes: Sequence[str]) -> Catalogue:
        wanted, skipped = set(classes), Skipped()
        parts: dict[str, list[pa.Table]] = {TRAIN: [], VAL: []}
        val_images = 0
        for folder in walk(self.store, [self._train, *([self._val] if self._val else [])] if self._train else classes):
            split, name = self._place(folder.path)
            images = take_images(folder, skipped, labels=(SYNSET_MAPPING,))
            if split == VAL and name and not is_hidden(name):
                val_images += len(images)
            if split is None:
                skip_images(folder, images, OUTSIDE, skipped)
            elif not name:
                skip_images(folder, images, NO_CLASS_FOLDER, skipped)
            elif name not in wanted:
                skip_images(folder, images, NOT_CHOSEN, skipped)
            elif images:
                self._check_depth(folder, name)
                parts[split].append(image_table(folder, images, self._folder_of(split), name))
        return self._catalogue(parts, val_images, classes, skipped)

    def _place(self, path: str) -> tuple[str | None, str]:
        """The split and the class of what is in a folder; "" if it is in no class folder, None if in no split."""
        if not self._train:
            return TRAIN, path.split("/")[0]
        top, _, below = path.partition("/")
        split = TRAIN if top == self._train else VAL if top == self._val else None
        return split, below.split("/")[0]

    def _folder_of(self, split: str) -> str:
        return self._train if split == TRAIN else self._val or VAL

    def _check_depth(self, folder: Folder, name: str) -> None:
        """Raises `InputError` for images below a class folder of the root, which may be a whole other source."""
        if not self._train and folder.path != name:
            raise InputError(
                f"{one_line(self.store.describe(folder.path))} holds images, and {name} would be their class: give the "
                f"folder with the class folders as --source, or move them into {name}"
            )

    def _catalogue(
        self, parts: dict[str, list[pa.Table]], val_images: int, classes: Sequence[str], skipped: Skipped
    ) -> Catalogue:
        where = self.store.describe(self._train)
        if not parts[TRAIN]:
            raise InputError(f"{where} holds no images: its class folders have no *.JPEG files")
        if self._val is not None and not val_images:
            raise InputError(
                f"{self.store.describe(self._val)} holds no images in its class folders: put some there, or remove it"
            )
        splits = {split: sort_table(pa.concat_tables(parts.pop(split))) for split in list(parts) if parts[split]}
        check_classes_have_images(splits[TRAIN], classes, where, "put some into its folder, or remove the folder")
        return Catalogue(splits, skipped)


def _has_images(folder: Folder) -> bool:
    return any(why_no_image(file.name) is None for file in folder.files)


def _check_labelled(where: str, val: Folder, labelled: Sequence[str]) -> None:
    images = [file.name for file in val.files if why_no_image(file.name) is None]
    if images and not labelled:
        raise InputError(
            f"{where} holds {len(images):,} images and no class folders, so they have no labels (such as "
            f"{one_line(images[0])}): move them to {VAL}/<class>/, or move {VAL}/ out of the source"
        )
