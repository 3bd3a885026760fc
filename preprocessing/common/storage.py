"""Opening a store: blobs in a folder, by local path or URI, wherever that is."""

from __future__ import annotations

import os

from preprocessing.common.places import Place, parse
from preprocessing.common.stores.base import Entry, Store
from preprocessing.common.stores.hdfs import HdfsStore
from preprocessing.common.stores.local import LocalStore
from preprocessing.common.stores.object_store import ObjectStore

__all__ = ["Entry", "Store", "open_store"]

_KINDS: dict[str, type[Store]] = {"": LocalStore, "hdfs": HdfsStore, "viewfs": HdfsStore}


def open_store(uri: str | os.PathLike[str]) -> Store:
    """The store at a local path (absolute or relative) or a URI: s3://, gs://, hdfs://, viewfs:// or file://.

    Nothing is read, created or connected to yet. Raises `InputError` for a URI that is wrong as it is written.
    """
    place: Place = parse(os.fspath(uri))
    return _KINDS.get(place.scheme, ObjectStore)(place)
