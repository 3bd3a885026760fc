"""A folder on a local filesystem, or on one that is mounted."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pyarrow import fs as pafs

from preprocessing.common.errors import InputError
from preprocessing.common.stores import base, local_files
from preprocessing.common.stores.base import Store


class LocalStore(Store):
    """Writes under a temporary name in the same folder, then renames. `create` is exact: see `local_files.create`."""

    is_local: ClassVar[bool] = True

    def _read(self, name: str) -> bytes:
        return Path(name).read_bytes()

    def _write(self, name: str, data: bytes) -> None:
        local_files.write(name, data)

    def _create(self, path: str, data: bytes) -> bool:
        return local_files.create(self._name(path), data, base.SETTLE_SECONDS)

    @contextlib.contextmanager
    def _replacing(self, name: str) -> Iterator[Path]:
        temporary = local_files.temporary(name)
        try:
            Path(temporary).parent.mkdir(parents=True, exist_ok=True)
            yield Path(temporary)
            local_files.rename(temporary, name)
        except BaseException:
            local_files.discard(temporary)
            raise

    def _check_writable(self) -> None:
        folder = Path(self._place.path)
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            raise InputError(f"cannot write to {self.describe()}: {folder} is a file; choose another place")
        probe = Path(local_files.temporary(str(folder / "probe")))
        probe.touch(exist_ok=False)
        probe.unlink()

    def _delete_tree(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(name)

    def _delete(self, name: str) -> None:
        Path(name).unlink()  # pyarrow takes no name that is not UTF-8

    def _discard(self, name: str) -> None:
        local_files.discard(name)

    def _open(self) -> tuple[Any, str]:
        if self._opened is None:
            self._opened = pafs.LocalFileSystem(), self._place.path
        return self._opened
