"""The layout of Kaggle's ImageNet challenge: `ILSVRC/Data/CLS-LOC/...`, with val's labels in `LOC_val_solution.csv`."""

from __future__ import annotations

import csv
from collections.abc import Sequence

import pyarrow as pa

from preprocessing.common.errors import InputError
from preprocessing.common.names import one_line
from preprocessing.common.storage import Entry, Store
from preprocessing.sources.base import (
    TRAIN,
    VAL,
    WHOLE_FILE,
    Catalogue,
    Row,
    check_classes_have_images,
    make_table,
    sort_table,
)
from preprocessing.sources.folder_images import class_folders, image_table, skip_images, take_images
from preprocessing.sources.listed_source import SYNSET_MAPPING, ListedSource
from preprocessing.sources.listing import Folder, list_folder, walk
from preprocessing.sources.skipped import NO_CLASS_FOLDER, NOT_CHOSEN, OUTSIDE, UNLABELLED, Skipped
from preprocessing.sources.text_files import decode_text

IMAGES = "ILSVRC/Data/CLS-LOC"
_TRAIN, _VAL, _TEST = f"{IMAGES}/{TRAIN}", f"{IMAGES}/{VAL}", f"{IMAGES}/test"
SOLUTION = "LOC_val_solution.csv"


class KaggleSource(ListedSource):
    """Train is in class folders; val is one folder, its classes in a CSV file. Test images have no labels: skipped."""

    layout = "kaggle"
    looks_like = f"Kaggle's {IMAGES}/ with {SOLUTION} beside ILSVRC/"

    @classmethod
    def recognises(cls, store: Store) -> bool:
        """Whether there is a folder `ILSVRC/Data/CLS-LOC`."""
        return store.is_folder(IMAGES)

    def classes(self) -> list[str]:
        """The folders of train, except hidden ones and those of tools."""
        known = class_folders(self.store, list_folder(self.store, _TRAIN))
        if not known:
            raise InputError(f"{self.store.describe(_TRAIN)} has no class folders: unpack the archive again")
        if VAL in list_folder(self.store, IMAGES).dead_links:
            where = self.store.describe(_VAL)
            raise InputError(f"{where} is a dead link: mount its target, or remove it")
        return known

    def _list(self, classes: Sequence[str]) -> Catalogue:
        wanted, skipped = set(classes), Skipped()
        train: list[pa.Table] = []
        val: tuple[Folder, list[Entry]] | None = None
        for folder in walk(self.store, (_TRAIN, _VAL)):
            images = take_images(folder, skipped, labels=(SYNSET_MAPPING, SOLUTION))
            below = folder.path.removeprefix(f"{_TRAIN}/")
            name = below.split("/")[0]
            if folder.path == _VAL:
                val = folder, images
            elif below == folder.path:
                skip_images(folder, images, _why_outside(folder.path), skipped)
            elif name in wanted:
                train.append(image_table(folder, images, _TRAIN, name))
            else:
                skip_images(folder, images, NOT_CHOSEN, skipped)
        where = self.store.describe(_TRAIN)
        if not any(map(len, train)):
            raise InputError(f"{where} holds no images: unpack the archive again")
        splits = {TRAIN: sort_table(pa.concat_tables(train))}
        check_classes_have_images(splits[TRAIN], classes, where, "unpack the archive again")
        if val is not None:
            rows = self._label_val(*val, wanted, skipped)
            if rows:
                splits[VAL] = make_table(rows)
        return Catalogue(splits, skipped)

    def _label_val(self, folder: Folder, images: Sequence[Entry], wanted: set[str], skipped: Skipped) -> list[Row]:
        where = self.store.describe(SOLUTION)
        try:
            solution = parse_solution(decode_text(self.store.read(SOLUTION)))
        except FileNotFoundError as error:
            remedy = f"put Kaggle's {SOLUTION} beside ILSVRC/, or remove {_VAL}"
            raise InputError(f"{where} is missing, and val has no labels without it: {remedy}") from error
        known = set(self.classes())
        rows: list[Row] = []
        for image in images:
            path = folder.join(image.name)
            name = solution.pop(image.name.rsplit(".", 1)[0], None)
            if name not in known:
                said = f"gives it {one_line(name)}, which is not a class of train" if name else "does not name it"
                raise InputError(f"{self.store.describe(path)} has no label: {where} {said}; download it again")
            if name in wanted:
                rows.append((f"{name}/{image.name}", name, path, WHOLE_FILE, image.size))
            else:
                skipped.add(NOT_CHOSEN, path)
        if solution:
            first = f"{_VAL}/{one_line(min(solution))}.JPEG"
            more = f" and {len(solution) - 1:,} more" if len(solution) > 1 else ""
            raise InputError(
                f"{self.store.describe(first)}{more} named by {SOLUTION} is missing: unpack the archive again"
            )
        return rows


def _why_outside(folder: str) -> str:
    """Why images in a folder that is neither a class folder nor val are skipped."""
    if folder == _TRAIN:
        return NO_CLASS_FOLDER
    return UNLABELLED if f"{folder}/".startswith(f"{_TEST}/") else OUTSIDE


def parse_solution(text: str) -> dict[str, str]:
    """`LOC_val_solution.csv`: image name (without extension) to wnid, the first word of its second column."""
    try:
        rows = list(csv.reader(text.splitlines()))
    except csv.Error as error:
        raise InputError(f"{SOLUTION} is damaged ({error}): download it again") from error
    if not rows or rows[0][:2] != ["ImageId", "PredictionString"]:
        raise InputError(f"{SOLUTION} does not begin with ImageId,PredictionString: download it again")
    found = {}
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        words = row[1].split() if len(row) > 1 else []
        if not words or row[0] in found:
            raise InputError(f"{SOLUTION}: line {number} names no class, or an image again: download it again")
        found[row[0]] = words[0]
    return found
