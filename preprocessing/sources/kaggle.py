"""The tree of Kaggle's ImageNet challenge: `ILSVRC/Data/CLS-LOC/...`, and `LOC_val_solution.csv` for val's labels."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from preprocessing.common.errors import InputError
from preprocessing.common.storage import Entry, Store
from preprocessing.sources.base import TRAIN, VAL, WHOLE_FILE, Catalogue, Row, check_classes_have_images, make_table
from preprocessing.sources.folders import SYNSET_MAPPING, FolderSource, class_folders, images_in, rows_of, skip
from preprocessing.sources.listing import Folder, list_folder, walk
from preprocessing.sources.skipped import NO_CLASS_FOLDER, NOT_CHOSEN, OUTSIDE, UNLABELLED, Skipped
from preprocessing.sources.text_files import decode_text

IMAGES = "ILSVRC/Data/CLS-LOC"
_TRAIN, _VAL, _TEST = f"{IMAGES}/{TRAIN}", f"{IMAGES}/{VAL}", f"{IMAGES}/test"
SOLUTION = "LOC_val_solution.csv"


class KaggleSource(FolderSource):
    """Train in class folders, val in one folder with its classes in a CSV file. The unlabelled test images are left."""

    layout = "kaggle"
    looks_like = f"Kaggle's {IMAGES}/ with {SOLUTION} beside ILSVRC/"

    @classmethod
    def recognises(cls, store: Store) -> bool:
        """Whether there is a folder `ILSVRC/Data/CLS-LOC`."""
        return store.is_folder(IMAGES)

    def classes(self) -> list[str]:
        """The folders of train; hidden ones and tools' are none."""
        known = class_folders(self.store, list_folder(self.store, _TRAIN))
        if not known:
            raise InputError(f"{self.store.describe(_TRAIN)} has no class folders: unpack the archive again")
        if VAL in list_folder(self.store, IMAGES).dead_links:
            where = self.store.describe(_VAL)
            raise InputError(f"{where} is a link that leads nowhere: mount what it points at, or remove it")
        return known

    def _list(self, classes: Sequence[str]) -> Catalogue:
        wanted, skipped = set(classes), Skipped()
        train: list[Row] = []
        val: tuple[Folder, list[Entry]] | None = None
        for folder in walk(self.store, (_TRAIN, _VAL)):
            images = images_in(folder, skipped, labels=(SYNSET_MAPPING, SOLUTION))
            inside, path = f"{folder.path}/", folder.path
            if path == _VAL:
                val = folder, images
            elif path == _TRAIN:
                skip(folder, images, NO_CLASS_FOLDER, skipped)
            elif inside.startswith(f"{_TRAIN}/"):
                name = path[len(_TRAIN) + 1 :].split("/")[0]
                if name in wanted:
                    train += rows_of(folder, images, _TRAIN, name)
                else:
                    skip(folder, images, NOT_CHOSEN, skipped)
            else:
                skip(folder, images, UNLABELLED if inside.startswith(f"{_TEST}/") else OUTSIDE, skipped)
        if not train:
            raise InputError(f"{self.store.describe(_TRAIN)} holds no images: unpack the archive again")
        check_classes_have_images(train, classes, self.store.describe(_TRAIN), "unpack the archive again")
        splits = {TRAIN: make_table(train)}
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
                said = f"gives it {name}, which is no class of train" if name else "does not name it"
                raise InputError(f"{self.store.describe(path)} has no label: {where} {said}; download it again")
            if name in wanted:
                rows.append((f"{name}/{image.name}", name, path, WHOLE_FILE, image.size))
            else:
                skipped.add(NOT_CHOSEN, path)
        if solution:
            first = f"{_VAL}/{min(solution)}.JPEG"
            missing = f"{self.store.describe(first)} is missing"
            raise InputError(
                f"{missing}, with {len(solution) - 1} more that {SOLUTION} names: unpack the archive again"
            )
        return rows


def parse_solution(text: str) -> dict[str, str]:
    """`LOC_val_solution.csv`: image name (without extension) to wnid, the first word of its second column."""
    rows = list(csv.reader(text.splitlines()))
    if not rows or rows[0][:2] != ["ImageId", "PredictionString"]:
        raise InputError(f"{SOLUTION} does not begin with ImageId,PredictionString: download it again")
    found = {}
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        words = row[1].split() if len(row) > 1 else []
        if not words:
            raise InputError(f"{SOLUTION}: line {number} names no class: download it again")
        found[row[0]] = words[0]
    return found
