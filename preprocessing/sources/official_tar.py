"""The official files as downloaded: a tar of class tars, val's tar and the development kit; read where they are."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence

from preprocessing.common.errors import InputError
from preprocessing.common.storage import Store
from preprocessing.sources.archive import Archive, compressed, image_members, index_archive
from preprocessing.sources.base import TRAIN, VAL, Catalogue, Mapper, Row, Source, check_classes_have_images, make_table
from preprocessing.sources.devkit import Devkit, read_devkit
from preprocessing.sources.file_names import is_hidden
from preprocessing.sources.folder_images import skip_images, take_images
from preprocessing.sources.listing import list_folder, walk
from preprocessing.sources.skipped import CLASS_TAR_NOT_CHOSEN, NO_CLASS_FOLDER, NOT_CHOSEN, OUTSIDE, Skipped
from preprocessing.sources.tar_index import Member

TRAIN_TAR = "ILSVRC2012_img_train.tar"
VAL_TAR = "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
UNPACKED_DEVKIT = DEVKIT.removesuffix(".gz")
_VAL_NAME = re.compile(r"^ILSVRC2012_val_(\d{8})\.JPEG$")


class TarSource(Source):
    """A class is a tar in the train tar. Val's labels are in the development kit."""

    layout = "tar"
    looks_like = f"{TRAIN_TAR}, {VAL_TAR} and {DEVKIT}"
    listed_quickly = False

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._outer = self._index_train()
        self._class_tars = self._find_class_tars()
        self._val_size = store.size(VAL_TAR)
        packed = compressed([file.name for file in list_folder(store).files], VAL_TAR)
        if self._val_size is None and packed:
            raise InputError(store.describe(packed))
        self._devkit, self._devkit_hash = self._read_devkit()

    @classmethod
    def recognises(cls, store: Store) -> bool:
        """Whether the train tar is there."""
        return store.exists(TRAIN_TAR)

    @classmethod
    def near_miss(cls, files: Sequence[str]) -> str | None:
        """What to do if the train tar is there, but compressed."""
        return compressed(files, TRAIN_TAR)

    def classes(self) -> list[str]:
        """The names of the class tars."""
        return sorted(self._class_tars)

    def names(self) -> dict[str, str]:
        """The names in the development kit."""
        return self._devkit.names

    def signature(self, classes: Sequence[str]) -> str:
        """A hash of the class tars' names, sizes and places, of val's size and of the development kit."""
        parts = [f"{name} {self._class_tars[name].offset} {self._class_tars[name].size}" for name in classes]
        parts += [str(self._val_size), self._devkit_hash]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def catalogue(self, classes: Sequence[str], mapper: Mapper = map) -> Catalogue:
        """Every image of `classes`. Tar headers are walked by `mapper`: an item for each class, and one for val."""
        archives = self._archives(classes)
        found = dict(zip(archives, mapper(functools.partial(index_archive, self.store), archives), strict=True))
        inside: dict[Archive, list[Member]] = {}
        for archive, members in found.items():
            if isinstance(members, str):
                raise InputError(members)
            inside[archive] = members
        skipped = Skipped()
        self._skip_others(set(classes), skipped)
        splits = {TRAIN: make_table(self._train_rows(inside, classes, skipped))}
        if self._val_size is not None:
            val = self._label_val(inside[archives[-1]], set(classes), skipped)
            if val:
                splits[VAL] = make_table(val)
        return Catalogue(splits, skipped)

    def _index_train(self) -> list[Member]:
        size = self.store.size(TRAIN_TAR)
        if size is None:
            raise InputError(f"{self.store.describe(TRAIN_TAR)} is missing: put the official file there")
        outer = index_archive(self.store, Archive(TRAIN_TAR, TRAIN_TAR, 0, size))
        if isinstance(outer, str):
            raise InputError(outer)
        return outer

    def _find_class_tars(self) -> dict[str, Member]:
        where, found = self.store.describe(TRAIN_TAR), dict[str, Member]()
        for member in filter(_is_class_tar, self._outer):
            name = _class_name(member)
            if name in found:
                raise InputError(f"{where} holds {name}.tar twice: download the official file again")
            found[name] = member
        if not found:
            raise InputError(f"{where} holds no class tars: download the official file again")
        return found

    def _archives(self, classes: Sequence[str]) -> list[Archive]:
        """The class tars, then val's."""
        tars = [(name, self._class_tars[name]) for name in classes]
        archives = [Archive(TRAIN_TAR, name, tar.offset, tar.size) for name, tar in tars]
        return archives + ([Archive(VAL_TAR, VAL_TAR, 0, self._val_size)] if self._val_size is not None else [])

    def _train_rows(self, inside: dict[Archive, list[Member]], classes: Sequence[str], skipped: Skipped) -> list[Row]:
        rows: list[Row] = []
        for archive, members in inside.items():
            if archive.path == TRAIN_TAR:
                images = image_members(members, f"{TRAIN_TAR}/{archive.name}.tar", skipped)
                rows += [_row(archive.name, member) for member in images]
        where = self.store.describe(TRAIN_TAR)
        if not rows:
            raise InputError(f"{where} holds no images: download it again")
        check_classes_have_images(rows, classes, where, "download it again")
        return rows

    def _skip_others(self, wanted: set[str], skipped: Skipped) -> None:
        """Counts as skipped what is neither a chosen class tar nor one of the archives that are read."""
        for member in image_members([tar for tar in self._outer if not _is_class_tar(tar)], TRAIN_TAR, skipped):
            skipped.add(NO_CLASS_FOLDER, f"{TRAIN_TAR}/{member.name}")
        for name in self._class_tars.keys() - wanted:
            skipped.add(CLASS_TAR_NOT_CHOSEN, f"{TRAIN_TAR}/{name}.tar")
        for folder in walk(self.store, ()):
            if not folder.path:
                archives = (TRAIN_TAR, VAL_TAR)
                folder = folder._replace(files=[file for file in folder.files if file.name not in archives])
            skip_images(folder, take_images(folder, skipped, labels=(self._devkit_name,)), OUTSIDE, skipped)

    def _label_val(self, inside: Sequence[Member], wanted: set[str], skipped: Skipped) -> list[Row]:
        truth = self._devkit.classes
        where = self.store.describe(VAL_TAR)
        images = image_members(inside, VAL_TAR, skipped)
        if len(images) != len(truth):
            counts = f"{len(images):,} images and {self._devkit_name} has {len(truth):,} labels"
            raise InputError(f"{where} has {counts}: download both again")
        rows: list[Row] = []
        for member in images:
            file = member.name.rsplit("/", 1)[-1]
            match = _VAL_NAME.match(file)
            number = int(match[1]) if match else 0
            if not 1 <= number <= len(truth):
                expected = f"ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_{len(truth):08}.JPEG"
                raise InputError(f"{where}: {member.name} is not one of {expected}: download it again")
            name = truth[number - 1]
            if name not in self._class_tars:
                raise InputError(f"{where}: {member.name} is of class {name}, which {TRAIN_TAR} does not have")
            if name in wanted:
                rows.append((f"{name}/{file}", name, VAL_TAR, member.offset, member.size))
            else:
                skipped.add(NOT_CHOSEN, f"{VAL_TAR}/{member.name}")
        return rows

    def _read_devkit(self) -> tuple[Devkit, str]:
        # A browser may have unpacked the download, and may have shortened its name.
        self._devkit_name = DEVKIT
        if not self.store.exists(DEVKIT) and self.store.exists(UNPACKED_DEVKIT):
            self._devkit_name = UNPACKED_DEVKIT
        where = self.store.describe(self._devkit_name)
        try:
            data = self.store.read(self._devkit_name)
        except FileNotFoundError as error:
            if self._val_size is None:
                return Devkit([], {}), ""
            remedy = f"put it beside {VAL_TAR}"
            raise InputError(f"{where} is missing, and {VAL_TAR} has no labels without it: {remedy}") from error
        return read_devkit(data, where), hashlib.sha256(data).hexdigest()


def _is_class_tar(member: Member) -> bool:
    return member.name.endswith(".tar") and not member.kind and not is_hidden(member.name)


def _class_name(member: Member) -> str:
    return member.name.rsplit("/", 1)[-1].removesuffix(".tar")


def _row(name: str, member: Member) -> Row:
    inside = member.name.removeprefix("./").removeprefix(f"{name}/")
    return f"{name}/{inside}", name, TRAIN_TAR, member.offset, member.size
