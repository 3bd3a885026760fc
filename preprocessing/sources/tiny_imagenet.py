"""Tiny ImageNet as unpacked: `train/<wnid>/images/*.JPEG`, and `val/images` with the labels in a text file."""

from __future__ import annotations

from collections.abc import Sequence

from preprocessing.common.errors import InputError
from preprocessing.common.names import one_line
from preprocessing.common.storage import Entry, Store
from preprocessing.sources.base import TRAIN, VAL, WHOLE_FILE, Catalogue, Row, make_catalogue
from preprocessing.sources.folder_images import class_folders, skip_images, take_images
from preprocessing.sources.listed_source import ListedSource
from preprocessing.sources.listing import Folder, list_folder, walk
from preprocessing.sources.skipped import NO_CLASS_FOLDER, NOT_CHOSEN, OUTSIDE, UNLABELLED, Skipped
from preprocessing.sources.text_files import decode_text

ARCHIVE = "tiny-imagenet-200.zip"
ANNOTATIONS = "val/val_annotations.txt"
WORDS, WNIDS = "words.txt", "wnids.txt"
_IMAGES = "images"
_VAL_IMAGES = f"{VAL}/{_IMAGES}"


class TinyImageNetSource(ListedSource):
    """A class is a folder of `train`. Test images have no labels: skipped."""

    layout = "tiny-imagenet"
    looks_like = f"Tiny ImageNet's train/<wnid>/images/ with {ANNOTATIONS}"

    @classmethod
    def recognises(cls, store: Store) -> bool:
        """Whether there is the file with val's labels."""
        return store.exists(ANNOTATIONS)

    @classmethod
    def near_miss(cls, files: Sequence[str]) -> str | None:
        """What to do with the archive."""
        if ARCHIVE not in files:
            return None
        return f"{ARCHIVE} has to be unpacked first: unzip {ARCHIVE}, and give the folder that it makes as --source"

    def classes(self) -> list[str]:
        """The folders of `train`, except hidden ones and those of tools."""
        known = class_folders(self.store, list_folder(self.store, TRAIN))
        if not known:
            raise InputError(f"{self.store.describe(TRAIN)} has no class folders: unpack the archive again")
        return known

    def names(self) -> dict[str, str]:
        """The names in `words.txt`, which has all of WordNet's."""
        try:
            text = decode_text(self.store.read(WORDS))
        except FileNotFoundError:
            return {}
        pairs = (line.split("\t", 1) for line in text.splitlines() if "\t" in line)
        known = set(self.classes())
        return {wnid: words.strip() for wnid, words in pairs if wnid in known and words.strip()}

    def _list(self, classes: Sequence[str]) -> Catalogue:
        wanted, skipped = set(classes), Skipped()
        train: list[Row] = []
        val: list[Row] = []
        labelled = False
        for folder in walk(self.store, (TRAIN, VAL)):
            images = take_images(folder, skipped, labels=(ANNOTATIONS, WORDS, WNIDS))
            split, _, below = folder.path.partition("/")
            name = below.split("/")[0]
            if folder.path == _VAL_IMAGES:
                val, labelled = self._label_val(folder, images, wanted, skipped), True
            elif split != TRAIN or not name:
                skip_images(folder, images, _why_outside(split), skipped)
            elif name in wanted:
                train += [_row(folder, image, name) for image in images]
            else:
                skip_images(folder, images, NOT_CHOSEN, skipped)
        where = self.store.describe(TRAIN)
        if not train:
            raise InputError(f"{where} holds no images: unpack the archive again")
        if not labelled:
            raise InputError(f"{self.store.describe(_VAL_IMAGES)} is missing: unpack the archive again")
        return make_catalogue({TRAIN: train, VAL: val}, classes, skipped, where, "unpack the archive again")

    def _label_val(self, folder: Folder, images: Sequence[Entry], wanted: set[str], skipped: Skipped) -> list[Row]:
        where = self.store.describe(ANNOTATIONS)
        labels, known = parse_annotations(decode_text(self.store.read(ANNOTATIONS)), where), set(self.classes())
        rows: list[Row] = []
        for image in images:
            path = folder.join(image.name)
            name = labels.pop(image.name, None)
            if name not in known:
                said = f"gives it {one_line(name)}, which is not a class of train" if name else "does not name it"
                raise InputError(f"{self.store.describe(path)} has no label: {where} {said}; unpack the archive again")
            if name in wanted:
                rows.append((f"{name}/{image.name}", name, path, WHOLE_FILE, image.size))
            else:
                skipped.add(NOT_CHOSEN, path)
        if labels:
            more = f" and {len(labels) - 1:,} more" if len(labels) > 1 else ""
            first = self.store.describe(f"{_VAL_IMAGES}/{one_line(min(labels))}")
            raise InputError(f"{first}{more} named by {where} is missing: unpack the archive again")
        return rows


def parse_annotations(text: str, where: str) -> dict[str, str]:
    """`val_annotations.txt`: on each line an image's name, its class and a box, with tabs between."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        words = line.split("\t")
        if len(words) < 2 or not words[1].strip() or words[0] in found:
            raise InputError(f"{where}: line {number} does not name an image and its class: unpack the archive again")
        found[words[0]] = words[1].strip()
    return found


def _why_outside(split: str) -> str:
    """Why images outside the class folders and val's folder are skipped."""
    if split == TRAIN:
        return NO_CLASS_FOLDER
    return UNLABELLED if split == "test" else OUTSIDE


def _row(folder: Folder, image: Entry, name: str) -> Row:
    """An image of train, with an id as in class folders: without the folder `images`."""
    path = folder.join(image.name)
    inside = path.removeprefix(f"{TRAIN}/{name}/").removeprefix(f"{_IMAGES}/")
    return f"{name}/{inside}", name, path, WHOLE_FILE, image.size
