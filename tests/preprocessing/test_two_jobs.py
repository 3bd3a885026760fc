"""Of two jobs on one output one works, and the other is told so; what a killed one leaves is no obstacle."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from preprocessing.common.claim import CLAIM, EXIT_BUSY, BusyError
from preprocessing.common.errors import InputError
from preprocessing.dataset.manifest import MANIFEST
from tests.preprocessing.raw_images import preprocess, serial_spark

# A job that stops in the middle, when it has begun to write, until its standard input ends.
JOB = """
import contextlib, os, sys
from pathlib import Path
import preprocessing.job.run as job
from tests.preprocessing.raw_images import preprocess

convert_all = job.convert_all

def convert_some(context, shards, *arguments, **options):
    print("at work", flush=True)
    if sys.stdin.read() == "die":
        convert_all(context, shards[:2], *arguments, **options)
        os._exit(9)
    return convert_all(context, shards, *arguments, **options)

job.convert_all = convert_some
preprocess(Path(sys.argv[1]), Path(sys.argv[2]), rows_per_shard=9)
"""


@contextlib.contextmanager
def at_work(raw: Path, output: Path) -> Iterator[subprocess.Popen[str]]:
    """A job of another process, while it writes."""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r})\n{JOB}", raw, output],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "at work\n"
        yield job


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_second_of_two_jobs_is_told_of_the_first(raw: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with at_work(raw, output) as job:
        for options in ({}, {"size": 16}, {"size": 16, "overwrite": True}):
            before = files(output)
            told = rf"{output} is being worked on by process {job.pid} on .* since 20"
            with pytest.raises(BusyError, match=told) as caught:
                preprocess(raw, output, **{"rows_per_shard": 9, **options})
            assert type(caught.value) is BusyError
            assert caught.value.exit_status == EXIT_BUSY
            assert files(output) == before
        job.communicate("go on")
        assert job.returncode == 0
    assert (output / MANIFEST).exists()
    assert not [name for name in files(output) if "claim" in name]


def test_what_a_killed_job_left_is_gone_on_with_at_once(raw: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with at_work(raw, output) as job:
        job.communicate("die")
        assert job.returncode == 9
    assert (output / CLAIM).exists()
    kept = {path: path.stat().st_mtime_ns for path in output.rglob("*.parquet")}
    assert len(kept) == 2
    preprocess(raw, output, rows_per_shard=9)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not [name for name in files(output) if "claim" in name]


def test_a_claim_is_all_that_a_job_killed_at_either_end_leaves(raw: Path, tmp_path: Path) -> None:
    """Before it wrote anything, and after its manifest."""
    output = tmp_path / "out"
    with at_work(raw, tmp_path / "other") as job:
        claim = (tmp_path / "other" / CLAIM).read_bytes()
        job.communicate("die")
    output.mkdir()
    (output / CLAIM).write_bytes(claim)
    (output / f"claim-{'0' * 32}.taken-over").write_bytes(claim)
    preprocess(raw, output, rows_per_shard=9)
    made = (output / MANIFEST).read_bytes()
    (output / CLAIM).write_bytes(claim)
    (output / "_work").mkdir()
    preprocess(raw, output, rows_per_shard=9)
    assert (output / MANIFEST).read_bytes() == made
    assert not {CLAIM, "_work"} & set(files(output))


def test_what_a_killed_job_of_other_settings_left_is_in_the_way(raw: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with at_work(raw, output) as job:
        job.communicate("die")
    before = files(output)
    assert CLAIM in before
    with pytest.raises(InputError, match="holds an unfinished dataset of another source or other settings") as caught:
        preprocess(raw, output, size=16)
    assert type(caught.value) is InputError
    assert files(output) == before


def test_one_that_ends_while_the_other_waits_has_done_its_work(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was looked at before the first was done, and is claimed after."""
    output = tmp_path / "out"

    @contextlib.contextmanager
    def after_the_first(store: Any, job: str) -> Iterator[None]:
        monkeypatch.undo()
        preprocess(raw, output)
        yield

    monkeypatch.setattr("preprocessing.job.run.claimed", after_the_first)
    started = []

    def spark(name: str) -> Any:
        started.append(name)
        return serial_spark(name)

    assert preprocess(raw, output, spark).images_in == 54
    assert started == []


def test_what_is_not_a_datasets_is_foreign_beside_a_claim_too(raw: Path, tmp_path: Path) -> None:
    (tmp_path / CLAIM).write_text(json.dumps({}))
    (tmp_path / "claim-of-mine.txt").touch()
    with pytest.raises(InputError, match="is not empty and holds no dataset"):
        preprocess(raw, tmp_path)
