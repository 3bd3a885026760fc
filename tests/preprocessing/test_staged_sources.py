"""Sources that are staged (hub Parquet, idx, CIFAR): on a bucket, stopped in the middle of staging, and the room."""

from __future__ import annotations

import logging
import re
import shutil
import signal
import subprocess
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import preprocessing.job.staging as staging
from preprocessing.common.errors import InputError, StorageError
from preprocessing.dataset.opening import Dataset
from preprocessing.job.plan import plan
from preprocessing.job.prepare import Request
from preprocessing.job.settings import Settings
from tests.cluster.processes import descendants, send
from tests.lottery.s3_proxy import Proxy
from tests.preprocessing.hub_files import write_hub
from tests.preprocessing.pixel_files import CIFAR_10, NAMES_10, archive, cifar10_files, grays, write_files, write_idx
from tests.preprocessing.raw_images import preprocess
from tests.preprocessing.submitting import JOB, ROOT, submit

KINDS = {"parquet": 6, "idx": 2, "cifar": 6}  # and the files that each has here
OPTIONS = {"rows_per_shard": 64}


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, raw: Path, tmp_path: Path) -> tuple[str, Path]:
    """A layout, and a source of it."""
    root = tmp_path / "source"
    if request.param == "parquet":
        write_hub(raw, root)
    elif request.param == "idx":
        write_idx(root, {"train": (grays(12), 3 * [0, 1, 2, 3]), "t10k": (grays(4, seed=50), [0, 1, 2, 3])})
    else:
        write_files(root, cifar10_files())
    return request.param, root


@pytest.fixture(scope="module")
def hub(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    write_hub(raw, root)
    return root


def upload(folder: Path, bucket: Proxy) -> str:
    """Puts a source into the bucket; its URI."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            bucket.put(f"source/{path.relative_to(folder)}", path.read_bytes())
    return bucket.uri("source")


def files_of(dataset: Path) -> dict[str, bytes]:
    """Every file but the manifest, which names the source."""
    paths = [path for path in dataset.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {str(path.relative_to(dataset)): path.read_bytes() for path in paths}


def test_from_bucket_to_bucket_which_fails_while_files_are_staged(
    source: tuple[str, Path], bucket: Proxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kind, root = source
    uri = upload(root, bucket)

    def deny(request: BaseHTTPRequestHandler) -> tuple[int, str] | None:
        staged = any(key.endswith(".json") and "/staged/" in key for key in bucket.written)
        return (403, "AccessDenied") if staged and request.path.startswith("/bucket/source/") else None

    bucket.deny = deny
    with pytest.raises(StorageError, match=r"cannot read s3://bucket/source/[^ ]*: access is denied; check") as caught:
        preprocess(uri, bucket.uri("out"), **OPTIONS)  # type: ignore[arg-type]
    assert type(caught.value) is StorageError
    assert "\n" not in str(caught.value)

    bucket.deny = lambda request: None
    caplog.set_level(logging.INFO, "preprocessing")
    manifest = preprocess(uri, bucket.uri("out"), **OPTIONS)  # type: ignore[arg-type]
    assert f"1 of {KINDS[kind]} files were staged by an earlier run" in caplog.messages
    local = preprocess(root, tmp_path / "local", **OPTIONS)
    assert manifest.hash == local.hash == Dataset.open(bucket.uri("out")).content_hash
    assert manifest.source == {**local.source, "uri": manifest.source["uri"]}
    assert manifest.source["layout"] == kind
    for name, data in files_of(tmp_path / "local").items():
        assert bucket.get(f"out/{name}") == data
    assert not [key for key in bucket.list_keys() if "_work" in key]


def test_a_tar_on_a_bucket_that_is_cut_short(bucket: Proxy) -> None:
    data = archive(cifar10_files(), "cifar-10-batches-bin")
    bucket.put("source/cifar-10-binary.tar", data[: len(data) // 2])
    with pytest.raises(
        InputError, match=r"cifar-10-binary\.tar.* is (damaged|cut short).*: download it again"
    ) as caught:
        preprocess(bucket.uri("source"), bucket.uri("out"))  # type: ignore[arg-type]
    assert type(caught.value) is InputError


@pytest.mark.parametrize("kind", ["idx", "cifar"])
def test_interrupted_in_the_middle_of_a_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import preprocessing.sources.cifar_file as cifar
    import preprocessing.sources.idx_file as idx

    source, module = tmp_path / "source", {"idx": idx, "cifar": cifar}[kind]
    if kind == "idx":
        write_idx(source, {"t10k": (grays(4, seed=50), [0, 1, 2, 3]), "train": (grays(12), 3 * [0, 1, 2, 3])})
        first = 4
    else:
        write_files(source, cifar10_files())
        first = 10
    whole = preprocess(source, tmp_path / "whole", **OPTIONS)
    real, drawn = module.png, []

    def interrupted(pixels: Any) -> bytes:
        drawn.append(pixels)
        if len(drawn) == first + 5:
            raise KeyboardInterrupt
        return real(pixels)

    monkeypatch.setattr(module, "png", interrupted)
    with pytest.raises(KeyboardInterrupt):
        preprocess(source, tmp_path / "out", **OPTIONS)
    assert len(list((tmp_path / "out").glob("_work/*/staged/*"))) == 2  # a blob and its index, of the first file
    drawn.clear()
    monkeypatch.setattr(module, "png", lambda pixels: drawn.append(pixels) or real(pixels))
    caplog.set_level(logging.INFO, "preprocessing")
    manifest = preprocess(source, tmp_path / "out", **OPTIONS)
    assert len(drawn) == manifest.images_in - first
    assert f"1 of {KINDS[kind]} files were staged by an earlier run" in caplog.messages
    assert manifest.hash == whole.hash
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_staging_goes_on_where_it_was_killed(
    hub: Path,
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: Any,
) -> None:
    caplog.set_level(logging.INFO, "preprocessing")
    real, staged = staging._stage, []

    def killed(extract: Any, folder: Any, unit: Any) -> Any:
        if len(staged) == 4:
            raise KeyboardInterrupt
        staged.append(unit.path)
        return real(extract, folder, unit)

    monkeypatch.setattr(staging, "_stage", killed)
    with pytest.raises(KeyboardInterrupt):
        preprocess(hub, tmp_path / "out", rows_per_shard=20)
    blobs = sorted((tmp_path / "out").glob("_work/*/staged/*"))
    assert len(blobs) == 8
    blobs[0].write_bytes(blobs[0].read_bytes()[:-1])  # a blob, as its name is shorter than its index's
    plan(Request(str(hub), str(tmp_path / "out"), Settings(size=32, row_group_rows=8, rows_per_shard=20)))
    assert " (3 were staged by an earlier run); deleted at the end\n" in capsys.readouterr().out
    first, staged[:] = list(staged), []
    monkeypatch.setattr(staging, "_stage", lambda *options: staged.append(options[2].path) or real(*options))
    manifest = preprocess(hub, tmp_path / "out", rows_per_shard=20)
    assert len(staged) == 3
    assert len({*first, *staged}) == 6
    assert "3 of 6 files were staged by an earlier run" in caplog.messages
    assert manifest.hash == Dataset.open(str(made)).content_hash
    assert not (tmp_path / "out" / "_work").exists()


def test_a_plan_names_the_room_for_staging(hub: Path, tmp_path: Path, capsys: Any) -> None:
    plan(Request(str(hub), str(tmp_path / "out"), Settings(size=8)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("layout parquet, 3 classes")
    staging_line = next(line for line in lines if line.startswith("stage: "))
    assert re.fullmatch(r"stage: 6 files, about \d+(\.\d+)? kB; deleted at the end", staging_line)
    assert lines[-1] == "time: less than a minute on one core of this machine"
    assert not (tmp_path / "out").exists()


def test_room_for_staging_is_checked_beforehand(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=50_000)  # enough for the dataset alone
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(InputError, match="GB are needed and 0.0 GB are free"):
        preprocess(hub, tmp_path / "out", size=8)
    assert not (tmp_path / "out").exists()


def write_large(kind: str, root: Path) -> None:
    """A source that takes seconds to stage."""
    generator = np.random.default_rng(0)
    if kind == "idx":
        splits = {}
        for split, count in (("train", 40_000), ("t10k", 100)):
            images = generator.integers(0, 256, (count, 28, 28), np.uint8)
            splits[split] = images, (np.arange(count) % 10).tolist()
        write_idx(root, splits, "{split}-{what}-idx{n}-ubyte")
        return
    files = {"batches.meta.txt": "\n".join(NAMES_10).encode()}
    for name in CIFAR_10:
        records = generator.integers(0, 256, (6_000, 3073), np.uint8)
        records[:, 0] = np.arange(len(records)) % 10
        files[name] = records.tobytes()
    write_files(root, files)


@pytest.mark.cluster
@pytest.mark.parametrize("kind", ["idx", "cifar"])
def test_killed_in_the_middle_of_a_file_and_run_again(kind: str, tmp_path: Path, environment: dict[str, str]) -> None:
    source, output = tmp_path / "source", tmp_path / "out"
    write_large(kind, source)
    command = submit(*JOB, "--source", str(source), "--output", str(output))
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL, start_new_session=True) as job:
        deadline = time.monotonic() + 90
        while True:
            stopped = stop_all(job.pid)  # else a file may be finished between this look and the kill
            if list(output.glob("_work/*/staged/*.json")) and begun(output):
                break
            send(signal.SIGCONT, stopped)
            assert time.monotonic() < deadline
            time.sleep(0.02)
        send(signal.SIGKILL, stopped)
    indexes = list(output.glob("_work/*/staged/*.json"))
    assert begun(output)
    assert len(indexes) < KINDS[kind]
    assert not list(output.glob("_work/*/train-*.json"))

    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert f"{len(indexes)} of {KINDS[kind]} files were staged by an earlier run" in again.stdout
    assert not (output / "_work").exists()
    whole = preprocess(source, tmp_path / "whole")
    assert Dataset.open(str(output)).content_hash == whole.hash
    assert files_of(output) == files_of(tmp_path / "whole")


def stop_all(pid: int) -> list[psutil.Process]:
    """Stops a process and all below it."""
    found: list[psutil.Process] = []
    for _ in range(2):  # what one of them started before it was stopped itself
        found = [psutil.Process(pid), *descendants(pid)]
        send(signal.SIGSTOP, found)
    return found


def begun(output: Path) -> bool:
    """Whether there is a part of a blob."""
    return any(path.stat().st_size > 100_000 for path in output.glob("_work/*/staged/.*.tmp"))
