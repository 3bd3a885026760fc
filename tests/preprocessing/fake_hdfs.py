"""A stand-in for hdfs-native's client, for tests without an HDFS."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import hdfs_native


class FakeClient:
    """Files in a dictionary, as hdfs-native's clients show them. It records the URLs and settings that it is given."""

    files: dict[str, bytes] = {}  # noqa: RUF012
    opened: list[tuple[str, dict[str, str]]] = []  # noqa: RUF012
    silent = False

    def __init__(self, url: str, settings: dict[str, str]) -> None:
        if ":" not in url.removeprefix("hdfs://"):
            raise RuntimeError('InvalidArgument("No NameNode hosts found")')
        FakeClient.opened.append((url, settings))
        self.inner = SimpleNamespace(create=lambda path, options: self.create_raw(path, options))

    def get_file_info(self, path: str) -> Any:
        if FakeClient.silent:
            time.sleep(3600)
        if path in self.files:
            return SimpleNamespace(path=path, isdir=False, length=len(self.files[path]))
        raise FileNotFoundError(path)

    def read(self, path: str) -> Any:
        return FakeReader((self.get_file_info(path)) and self.files[path])

    def create(self, path: str, options: Any) -> Any:
        return hdfs_native.FileWriter(self.create_raw(path, options))

    def create_raw(self, path: str, options: Any) -> Any:
        assert not options.overwrite
        FakeClient.files[path] = b""

        def write(data: bytes) -> None:
            FakeClient.files[path] += data

        def close() -> None:
            pass

        return SimpleNamespace(write=write, close=close)

    def list_status(self, path: str, recursive: bool) -> Iterator[Any]:
        for name in [name for name in self.files if name.startswith(f"{path}/")]:
            yield self.get_file_info(name)

    def rename(self, source: str, target: str, overwrite: bool) -> None:
        if target in self.files and not overwrite:
            raise FileExistsError(f"rename destination {target} already exists\n\tat org.apache")
        FakeClient.files[target] = FakeClient.files.pop(source)

    def delete(self, path: str, recursive: bool) -> bool:
        return FakeClient.files.pop(path, None) is not None


class FakeReader(bytes):
    def read_range(self, offset: int, length: int) -> bytes:
        assert offset + length <= len(self), "hdfs-native panics"
        return self[offset : offset + length]
