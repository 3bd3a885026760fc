"""The tree of Kaggle's ImageNet challenge: `ILSVRC/Data/CLS-LOC/...`, and `LOC_val_solution.csv` for val's labels."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from preprocessing.errors import InputError
from preprocessing.source_folders import FolderSource, class_folders, list_class_folders
from preprocessing.sources import TRAIN, VAL, WHOLE_FILE, Catalogue, Row, is_image_name, make_table
from preprocessing.storage import Store

IMAGES = "ILSVRC/Data/CLS-LOC"
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
        """The folders of train."""
        folders = class_folders(self.store, f"{IMAGES}/{TRAIN}")
        if not folders:
            raise InputError(f"{self.store.uri}/{IMAGES}/{TRAIN} has no class folders: unpack the archive again")
        return folders

    def _list(self, classes: Sequence[str]) -> Catalogue:
        rows, ignored = list_class_folders(self.store, f"{IMAGES}/{TRAIN}", classes)
        if not rows:
            raise InputError(f"{self.store.uri}/{IMAGES}/{TRAIN} holds no images: unpack the archive again")
        splits = {TRAIN: make_table(rows)}
        if self.store.is_folder(f"{IMAGES}/{VAL}"):
            rows, others = self._list_val(set(classes), set(self.classes()))
            ignored += others
            if rows:
                splits[VAL] = make_table(rows)
        return Catalogue(splits, ignored)

    def _list_val(self, wanted: set[str], known: set[str]) -> tuple[list[Row], int]:
        where = f"{self.store.uri}/{SOLUTION}"
        try:
            solution = parse_solution(self.store.read(SOLUTION).decode(errors="replace"))
        except FileNotFoundError as error:
            remedy = f"put Kaggle's {SOLUTION} beside ILSVRC/, or remove {IMAGES}/{VAL}"
            raise InputError(f"{where} is missing, and val has no labels without it: {remedy}") from error
        entries = self.store.entries(f"{IMAGES}/{VAL}", recursive=False)
        images = [entry for entry in entries if is_image_name(entry.name)]
        rows = []
        for entry in images:
            file = entry.name.rsplit("/", 1)[1]
            name = solution.pop(file.rsplit(".", 1)[0], None)
            if name not in known:
                said = f"gives it {name}, which is no class of train" if name else "does not name it"
                raise InputError(f"{self.store.uri}/{entry.name} has no label: {where} {said}; download it again")
            if name in wanted:
                rows.append((f"{name}/{file}", name, entry.name, WHOLE_FILE, entry.size))
        if solution:
            missing = f"{self.store.uri}/{IMAGES}/{VAL}/{min(solution)}.JPEG is missing"
            raise InputError(
                f"{missing}, with {len(solution) - 1} more that {SOLUTION} names: unpack the archive again"
            )
        return rows, len(entries) - len(images)


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
