"""Whether the rows of a dataset are those that its manifest lists: every byte is read and hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
from isal import isal_zlib

from preprocessing.common.retries import retrying
from preprocessing.common.storage import Store, open_store
from preprocessing.dataset.checks import damaged, failed
from preprocessing.dataset.manifest import FileInfo
from preprocessing.dataset.opening import Dataset
from preprocessing.dataset.plain_pages import to_plain


def verify(dataset: Dataset, threads: int = 2, verified: Callable[[FileInfo], None] = lambda file: None) -> int:
    """Hashes every file of a dataset, `threads` at a time, and returns the number of images.

    `verified` is called with each file that is sound. Raises `InputError` for the first file, in the manifest's order,
    that is missing, damaged or has other rows than the manifest says, and `StorageError` if storage fails.
    """
    store = open_store(dataset.uri)
    files = [file for split in dataset.splits.values() for file in split.files]
    with ThreadPoolExecutor(threads) as pool:
        try:
            for file, _ in zip(files, pool.map(lambda file: _verify_file(store, file), files), strict=True):
                verified(file)
        finally:
            pool.shutdown(cancel_futures=True)
    return sum(file.rows for file in files)


def _verify_file(store: Store, file: FileInfo) -> None:
    def read() -> str:
        return file_hash(store, file.name)

    try:
        found = read() if store.is_local else retrying(read)
    except (pa.ArrowException, OSError) as error:
        raise failed(store, file, error) from error
    if found != file.hash:
        raise damaged(store, file, f"its rows have the hash {found[:12]}, not {file.hash[:12]} as in the manifest")


def file_hash(store: Store, name: str) -> str:
    """The file hash: sha256 (hex) of a file's rows, however they are laid out. docs/data-format.md defines it."""
    digest = hashlib.sha256()
    with store.open_input(name) as source:
        parquet = pq.ParquetFile(source)
        for group in range(parquet.metadata.num_row_groups):
            table = parquet.read_row_group(group, columns=["image", "label", "id"], use_threads=False)
            images = isal_zlib.crc32(to_plain(table.column("image").to_pylist()).data)
            digest.update(images.to_bytes(4, "little"))
            digest.update(table.column("label").to_numpy().astype("<i4").tobytes())
            digest.update(to_plain([text.encode() for text in table.column("id").to_pylist()]).data)
    return digest.hexdigest()
