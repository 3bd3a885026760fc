"""WebDataset: tars in which each image `KEY.jpg` has its label in `KEY.cls` or `KEY.json` beside it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.names import one_line
from preprocessing.common.storage import Store
from preprocessing.sources.archive import Archive, image_members, read_archive
from preprocessing.sources.class_numbers import Label, parse_label
from preprocessing.sources.file_names import is_hidden, is_image_name
from preprocessing.sources.shards import Index, LabelledImage, ShardIndex, ShardSource
from preprocessing.sources.skipped import LABELS, OUTSIDE, Skipped
from preprocessing.sources.tar_index import Member, ReadAt

LABEL_KEYS = ("label", "cls", "class")
_LABELS = ("cls", "json")
_MAX_LABEL = 1 << 20
# Members of a tar that show whether it is a shard.
_FIRST_MEMBERS = 16


class WebDatasetSource(ShardSource):
    """Tars of samples. The samples' extension says what a file is: an image, `cls` or `json`."""

    layout = "webdataset"
    looks_like = "WebDataset's *.tar with KEY.jpg and KEY.cls or KEY.json"
    takes = ("--first-label", "--label-column")

    @classmethod
    def is_shard(cls, name: str) -> bool:
        """Whether it is a tar by name."""
        return name.lower().endswith(".tar")

    @classmethod
    def holds_shards(cls, store: Store) -> bool:
        """Whether one of the first tars has images and labels, or none of them can be read."""
        kinds = [_has_samples(store, path, size) for path, size in islice(sorted(cls.find(store).items()), 3)]
        return bool(kinds) and (any(kinds) or all(kind is None for kind in kinds))

    @classmethod
    def near_miss(cls, files: Sequence[str]) -> str | None:
        """What to do with a tar that is compressed."""
        packed = next((name for name in sorted(files) if name.lower().endswith((".tar.gz", ".tgz"))), None)
        return packed and f"{packed} is compressed: gunzip it if it is a WebDataset shard; else unpack it with tar -xf"

    def index(self) -> Index:
        """A function over this source's store."""
        return functools.partial(index_shard, self.store, self.options.label_column)


def index_shard(store: Store, label_key: str | None, path: str) -> ShardIndex | str:
    """The images and labels of a tar; or, as text, why it cannot be used. `label_key` is for JSON."""
    try:
        archive = Archive(path, path, 0, store.size(path) or 0)
        return read_archive(store, archive, lambda read_at, found: _pair(path, label_key, read_at, found))
    except StorageError:
        raise
    except InputError as error:
        return one_line(f"{store.describe(path)}: {error}")  # it may have a member's name


def _has_samples(store: Store, path: str, size: int) -> bool | None:
    """Whether a tar's first members are samples; None if it is damaged."""

    def look(_: ReadAt, found: Iterator[Member]) -> bool:
        extensions = {_split(member.name)[1] for member in islice(found, _FIRST_MEMBERS)}
        return any(map(_is_image, extensions)) and not extensions.isdisjoint(_LABELS)

    found = read_archive(store, Archive(path, path, 0, size), look)
    return None if isinstance(found, str) else found


def _pair(path: str, label_key: str | None, read_at: ReadAt, found: Iterator[Member]) -> ShardIndex:
    """Every image with its label; raises `InputError` for one that has none, or two."""
    members: list[Member] = []
    labels: dict[str, dict[str, bytes]] = {}
    for member in found:
        key, extension = _split(member.name)
        if extension in _LABELS and not member.kind and not is_hidden(member.name):
            if extension in labels.setdefault(key, {}):
                raise InputError(f"{member.name} is there twice: download it again")
            labels[key][extension] = _read(read_at, member)
        else:
            members.append(member)
    skipped = Skipped()
    images: dict[str, LabelledImage] = {}
    for member in image_members(members, path, skipped):
        key, extension = _split(member.name)
        if not _is_image(extension):
            skipped.add(OUTSIDE, f"{path}/{member.name}")
            continue
        if key in images:
            raise InputError(f"{images[key].name} and {member.name} are images of one key: keep one")
        label = _label(member.name, labels.pop(key, {}), label_key, skipped, f"{path}/{key}")
        images[key] = LabelledImage(member.name.removeprefix("./"), label, member.offset, member.size)
    for key, files in labels.items():  # of images that are not read
        for extension in files:
            skipped.add(LABELS, f"{path}/{key}.{extension}")
    return ShardIndex(list(images.values()), skipped)


def _split(name: str) -> tuple[str, str]:
    """A member's key and its extension in lower case: all after the first dot of the last part.

    >>> _split("./train/n01440764_1.seg.PNG")
    ('./train/n01440764_1', 'seg.png')
    """
    folder, slash, file = name.rpartition("/")
    key, _, extension = file.partition(".")
    return f"{folder}{slash}{key}", extension.lower()


def _is_image(extension: str) -> bool:
    return "." not in extension and is_image_name(f".{extension}")


def _read(read_at: ReadAt, member: Member) -> bytes:
    if member.size > _MAX_LABEL:
        raise InputError(f"{member.name} has {member.size:,} bytes, too many for a label: remove it")
    return read_at(member.offset, member.size)


def _label(name: str, files: dict[str, bytes], key: str | None, skipped: Skipped, place: str) -> Label:
    """The label in the files beside an image: that of `cls`, if there is one."""
    for extension in files:
        skipped.add(LABELS, f"{place}.{extension}")
    if not files:
        raise InputError(f"{name} has no label beside it (.cls or .json): leave its file out of --source")
    try:
        if "cls" in files:
            return parse_label(files["cls"].decode())
        return _json_label(files["json"], key)
    except (ValueError, InputError) as error:
        kind = "cls" if "cls" in files else "json"
        encoding = "UTF-8" if kind == "cls" else "JSON"
        why = error if isinstance(error, InputError) else f"it is not {encoding}: download it again"
        raise InputError(f"the .{kind} of {name}: {why}") from error


def _json_label(data: bytes, key: str | None) -> Label:
    found: Any = msgspec.json.decode(data)
    keys = LABEL_KEYS if key is None else (key,)
    for name in keys if isinstance(found, dict) else ():
        with contextlib.suppress(KeyError):
            value = found[name]
            if isinstance(value, bool) or not isinstance(value, int | str):
                raise InputError(f"{name} is neither a number nor text: name another key with --label-column")
            return parse_label(str(value))
    there = ", ".join(list(found)[:5]) if isinstance(found, dict) else "no keys"
    raise InputError(f"it has no {' or '.join(keys)} but {there}; name the key with --label-column")
