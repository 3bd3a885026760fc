"""Class folders: `train/<class>/*.JPEG` and `val/<class>/*.JPEG`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from preprocessing.common.errors import InputError
from preprocessing.common.names import one_line
from preprocessing.common.storage import Store
from preprocessing.sources.base import TRAIN, VAL, Catalogue, Row, check_classes_have_images, make_table
from preprocessing.sources.file_names import is_hidden
from preprocessing.sources.folder_images import class_folders, image_rows, skip_images, take_images
from preprocessing.sources.listed_source import SYNSET_MAPPING, ListedSource
from preprocessing.sources.listing import Folder, list_folder, walk
from preprocessing.sources.skipped import NO_CLASS_FOLDER, NOT_CHOSEN, OUTSIDE, Skipped, why_no_image

TINY_LABELS = "val_annotations.txt"
# Other names that people use for the folder `val`.
_LIKE_VAL = ("validation", "valid", "validate", "val")


class FolderSource(ListedSource):
    """A class is a folder of `train`. `val` is optional; each of its classes has to be in `train`."""

    layout = "folders"
    looks_like = "train/<class>/*.JPEG and val/<class>/*.JPEG"

    @classmethod
    def recognises(cls, store: Store) -> bool:
        """Whether there is a folder `train`."""
        return store.is_folder(TRAIN)

    def classes(self) -> list[str]:
        """The folders of `train`, except hidden ones and those of tools."""
        known = class_folders(self.store, list_folder(self.store, TRAIN))
        if not known:
            raise InputError(f"{self.store.describe(TRAIN)} has no class folders: put the images into {TRAIN}/<class>/")
        self._check_val(set(known))
        return known

    def _check_val(self, known: set[str]) -> None:
        """Raises `InputError` if `val` exists, but would be ignored or wrongly labelled."""
        where = self.store.describe(VAL)
        root, val = list_folder(self.store), list_folder(self.store, VAL)
        if VAL in root.dead_links:
            raise InputError(f"{where} is a dead link: mount its target, or remove it")
        if "images" in val.folders and TINY_LABELS in (file.name for file in val.files):
            raise InputError(_convert_tiny(self.store))
        labelled = class_folders(self.store, val)
        unknown = sorted(set(labelled) - known)
        if unknown:
            more = f", and {len(unknown) - 1:,} more like it" if len(unknown) > 1 else ""
            raise InputError(f"{where}/{unknown[0]} is not a class of {TRAIN}{more}: add it there, or remove it")
        _check_labelled(where, val, labelled)
        _check_val_name(self.store.describe(), root)

    def _list(self, classes: Sequence[str]) -> Catalogue:
        wanted, skipped = set(classes), Skipped()
        rows: dict[str, list[Row]] = {TRAIN: [], VAL: []}
        val_images: int | None = None
        for folder in walk(self.store, (TRAIN, VAL)):
            split, _, below = folder.path.partition("/")
            name = below.split("/")[0]
            images = take_images(folder, skipped, labels=(SYNSET_MAPPING,))
            if split == VAL and name and not is_hidden(name):
                val_images = (val_images or 0) + len(images)
            if split not in rows:
                skip_images(folder, images, OUTSIDE, skipped)
            elif not name:
                skip_images(folder, images, NO_CLASS_FOLDER, skipped)
            elif name not in wanted:
                skip_images(folder, images, NOT_CHOSEN, skipped)
            else:
                rows[split] += image_rows(folder, images, split, name)
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


def _check_labelled(where: str, val: Folder, labelled: Sequence[str]) -> None:
    images = [file.name for file in val.files if why_no_image(file.name) is None]
    if images and not labelled:
        raise InputError(
            f"{where} holds {len(images):,} images and no class folders, so they have no labels (such as "
            f"{one_line(images[0])}): move them to {VAL}/<class>/, or move {VAL}/ out of the source"
        )


def _check_val_name(where: str, root: Folder) -> None:
    misnamed = [name for name in root.folders if name != VAL and name.lower() in _LIKE_VAL]
    if misnamed and VAL not in root.folders:
        raise InputError(
            f"{where} has no {VAL}/, but {misnamed[0]}/, which would not be read: rename it to {VAL}, or move it out "
            "of the source"
        )


def _convert_tiny(store: Store) -> str:
    command = (
        f'cd {shlex.quote(store.describe(VAL))} && while read -r image class rest; do mkdir -p "$class" && '
        f'mv "images/$image" "$class/"; done < {TINY_LABELS} && rmdir images'
    )
    return (
        f"{store.describe()} is in Tiny ImageNet's layout, with the labels of val in {VAL}/{TINY_LABELS}, which "
        f"is not read yet: sort val into class folders first: {command}"
    )
