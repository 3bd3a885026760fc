"""The official files as downloaded: a tar of class tars, val's tar and the development kit. Nothing is unpacked."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from preprocessing.common.errors import InputError
from preprocessing.common.storage import Store
from preprocessing.sources.base import (
    TRAIN,
    VAL,
    Catalogue,
    Mapper,
    Row,
    Source,
    check_classes_have_images,
    make_table,
)
from preprocessing.sources.devkit import Devkit, read_devkit
from preprocessing.sources.file_names import is_hidden
from preprocessing.sources.folders import images_in, skip
from preprocessing.sources.listing import list_folder, walk
from preprocessing.sources.skipped import (
    CLASS_TAR_NOT_CHOSEN,
    HIDDEN,
    LINK_IN_TAR,
    NO_CLASS_FOLDER,
    NO_FILE,
    NOT_CHOSEN,
    OUTSIDE,
    Skipped,
    why_no_image,
)
from preprocessing.sources.tar_index import Member, TarError, members

TRAIN_TAR = "ILSVRC2012_img_train.tar"
VAL_TAR = "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
UNPACKED_DEVKIT = DEVKIT.removesuffix(".gz")
_VAL_NAME = re.compile(r"^ILSVRC2012_val_(\d{8})\.JPEG$")
# On a bucket a round trip takes the time of reading about a megabyte. Headers of images lie closer than that: it is
# faster to read all, in blocks that grow. Headers of class tars lie farther apart and are fetched one by one.
_NEAR = 1 << 20
_FIRST_BLOCK, _LARGEST_BLOCK = 1 << 16, 1 << 23


class _Part(NamedTuple):
    """A tar to index: [offset, offset + length) of file `path`."""

    path: str
    name: str
    offset: int
    length: int


class TarSource(Source):
    """A class is a tar in the train tar. Val needs the development kit for its labels."""

    layout = "tar"
    looks_like = f"{TRAIN_TAR}, {VAL_TAR} and {DEVKIT}"
    listed_quickly = False

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        size = store.size(TRAIN_TAR)
        if size is None:
            raise InputError(f"{store.describe(TRAIN_TAR)} is missing: put the official file there")
        outer = index_tar(store, _Part(TRAIN_TAR, TRAIN_TAR, 0, size))
        if isinstance(outer, str):
            raise InputError(outer)
        self._outer = outer
        self._class_tars: dict[str, Member] = {}
        for member in filter(_is_class_tar, outer):
            if _class_name(member) in self._class_tars:
                raise InputError(
                    f"{store.describe(TRAIN_TAR)} has {_class_name(member)}.tar twice: download the official file again"
                )
            self._class_tars[_class_name(member)] = member
        if not self._class_tars:
            raise InputError(f"{store.describe(TRAIN_TAR)} has no class tars in it: download the official file again")
        self._val_size = store.size(VAL_TAR)
        packed = compressed_archive([file.name for file in list_folder(store).files], VAL_TAR)
        if self._val_size is None and packed:
            raise InputError(f"{store.describe()}/{packed}")
        self._devkit, self._devkit_hash = self._read_devkit()

    @classmethod
    def recognises(cls, store: Store) -> bool:
        """Whether the train tar is there."""
        return store.exists(TRAIN_TAR)

    def classes(self) -> list[str]:
        """The names of the class tars."""
        return sorted(self._class_tars)

    def names(self) -> dict[str, str]:
        """Those of the development kit."""
        return self._devkit.names

    def signature(self, classes: Sequence[str]) -> str:
        """A hash of the class tars' names, sizes and places, of val's size and of the development kit."""
        parts = [f"{name} {self._class_tars[name].offset} {self._class_tars[name].size}" for name in classes]
        parts += [str(self._val_size), self._devkit_hash]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def catalogue(self, classes: Sequence[str], mapper: Mapper = map) -> Catalogue:
        """Every image of `classes`. Walking the headers is left to `mapper`, an item for each class and one for val."""
        tars = [self._class_tars[name] for name in classes]
        parts = [_Part(TRAIN_TAR, name, tar.offset, tar.size) for name, tar in zip(classes, tars, strict=True)]
        if self._val_size is not None:
            parts.append(_Part(VAL_TAR, VAL_TAR, 0, self._val_size))
        found = list(mapper(functools.partial(index_tar, self.store), parts))
        for problem in found:
            if isinstance(problem, str):
                raise InputError(problem)
        skipped = Skipped()
        self._skip_others(set(classes), skipped)
        rows: list[Row] = []
        for part, inside in zip(parts, found, strict=True):
            if part.path == TRAIN_TAR:
                where = f"{TRAIN_TAR}/{part.name}.tar"
                rows += [_row(part.name, member) for member in _images(inside, where, skipped)]
        where = self.store.describe(TRAIN_TAR)
        if not rows:
            raise InputError(f"{where} holds no images: download it again")
        check_classes_have_images(rows, classes, where, "download it again")
        splits = {TRAIN: make_table(rows)}
        if self._val_size is not None:
            val = self._label_val(found[-1], set(classes), skipped)
            if val:
                splits[VAL] = make_table(val)
        return Catalogue(splits, skipped)

    def _skip_others(self, wanted: set[str], skipped: Skipped) -> None:
        """Counts what is beside the class tars, inside the train tar and outside; archives that are read are none."""
        for member in _images([tar for tar in self._outer if not _is_class_tar(tar)], TRAIN_TAR, skipped):
            skipped.add(NO_CLASS_FOLDER, f"{TRAIN_TAR}/{member.name}")
        for name in self._class_tars.keys() - wanted:
            skipped.add(CLASS_TAR_NOT_CHOSEN, f"{TRAIN_TAR}/{name}.tar")
        for folder in walk(self.store, ()):
            if not folder.path:
                archives = (TRAIN_TAR, VAL_TAR)
                folder = folder._replace(files=[file for file in folder.files if file.name not in archives])
            skip(folder, images_in(folder, skipped, labels=(self._devkit_name,)), OUTSIDE, skipped)

    def _label_val(self, inside: Sequence[Member], wanted: set[str], skipped: Skipped) -> list[Row]:
        truth = self._devkit.classes
        where = self.store.describe(VAL_TAR)
        images = _images(inside, VAL_TAR, skipped)
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
                raise InputError(f"{where}: {member.name} is none of {expected}: download it again")
            name = truth[number - 1]
            if name not in self._class_tars:
                raise InputError(f"{where}: {member.name} is of class {name}, which {TRAIN_TAR} does not have")
            if name in wanted:
                rows.append((f"{name}/{file}", name, VAL_TAR, member.offset, member.size))
            else:
                skipped.add(NOT_CHOSEN, f"{VAL_TAR}/{member.name}")
        return rows

    def _read_devkit(self) -> tuple[Devkit, str]:
        # A browser may have unpacked the download, and then calls it by the shorter name, or does not.
        self._devkit_name = DEVKIT
        if not self.store.exists(DEVKIT) and self.store.exists(UNPACKED_DEVKIT):
            self._devkit_name = UNPACKED_DEVKIT
        where = self.store.describe(self._devkit_name)
        try:
            data = self.store.read(self._devkit_name)
        except FileNotFoundError as error:
            if self._val_size is None:
                return Devkit([], {}), ""
            raise InputError(f"{where} is missing, and {VAL_TAR} has no labels without it: put it there") from error
        return read_devkit(data, where), hashlib.sha256(data).hexdigest()


def compressed_archive(names: Sequence[str], archive: str = TRAIN_TAR) -> str | None:
    """Of file names, the one that is `archive` compressed, and what to do about it; None where there is none."""
    for suffix, command in ((".gz", "gunzip"), (".bz2", "bunzip2"), (".xz", "unxz"), (".zst", "unzstd")):
        if f"{archive}{suffix}" in names:
            return f"{archive}{suffix} is compressed, and is read only uncompressed: {command} {archive}{suffix}"
    return None


def index_tar(store: Store, part: _Part) -> list[Member] | str:
    """The files in a tar, at offsets of the file that it lies in; or, as text, why it cannot be used.

    An error is returned, not raised, as this runs in tasks, and Spark tries again what raises.
    """
    try:
        with store.open_input(part.path) as source:
            read_at: Any = lambda offset, length: source.read_at(length, offset)  # noqa: E731
            compressed = _compression(read_at(part.offset, min(8, part.length)))
            if compressed:
                return _explain_compression(store, part, *compressed)
            if store.local_path is None:
                read_at = _Blocks(read_at, part.offset + part.length)
            return list(members(read_at, part.offset, part.length))
    except FileNotFoundError:
        return f"{store.describe(part.path)} is missing: it was there a moment ago"
    except TarError as error:
        inner = "" if part.name == part.path else f": {part.name}.tar in it"
        return f"{store.describe(part.path)}{inner} is damaged: {error}; download it again"


class _Blocks:
    """Reads ahead in blocks, of which it keeps one."""

    def __init__(self, read_at: Any, end: int) -> None:
        self._read_at = read_at
        self._end = end
        self._start = 0
        self._block = b""
        self._size = _FIRST_BLOCK

    def __call__(self, offset: int, length: int) -> bytes:
        if not self._start <= offset <= offset + length <= self._start + len(self._block):
            near = 0 <= offset - self._start - len(self._block) <= _NEAR
            self._size = min(2 * self._size, _LARGEST_BLOCK) if near else _FIRST_BLOCK
            self._start = offset
            self._block = self._read_at(offset, max(length, min(self._size, self._end - offset)))
        return self._block[offset - self._start : offset - self._start + length]


def _compression(start: bytes) -> tuple[str, str, str] | None:
    """By its first bytes how a file is compressed: name, command that undoes it, and the suffix that this wants."""
    for magic, *found in (
        (b"\x1f\x8b", "gzip", "gunzip", ".gz"),
        (b"BZh", "bzip2", "bunzip2", ".bz2"),
        (b"\xfd7zXZ", "xz", "unxz", ".xz"),
        (b"\x28\xb5\x2f\xfd", "zstd", "unzstd", ".zst"),
    ):
        if start.startswith(magic):
            name, command, suffix = found
            return str(name), str(command), str(suffix)
    return None


def _explain_compression(store: Store, part: _Part, kind: str, command: str, suffix: str) -> str:
    if part.name != part.path:
        inner = f"{store.describe(part.path)}: {part.name}.tar in it is compressed with {kind}"
        return f"{inner}, and is read only uncompressed: download the official file"
    where = f"{store.describe(part.path)} is compressed with {kind}, and is read only uncompressed"
    return f"{where}: mv {part.path} {part.path}{suffix} && {command} {part.path}{suffix}"


def _is_class_tar(member: Member) -> bool:
    return member.name.endswith(".tar") and not member.kind and not is_hidden(member.name)


def _images(inside: Sequence[Member], archive: str, skipped: Skipped) -> list[Member]:
    """The images of an archive's members; all others are counted as skipped."""
    images = []
    for member in inside:
        reason = why_no_image(member.name)
        if member.kind and reason != HIDDEN:
            reason = LINK_IN_TAR if member.kind == "link" else NO_FILE
        if reason is None:
            images.append(member)
        else:
            skipped.add(reason, f"{archive}/{member.name}")
    return images


def _class_name(member: Member) -> str:
    return member.name.rsplit("/", 1)[-1].removesuffix(".tar")


def _row(name: str, member: Member) -> Row:
    inside = member.name.removeprefix("./").removeprefix(f"{name}/")
    return f"{name}/{inside}", name, TRAIN_TAR, member.offset, member.size
