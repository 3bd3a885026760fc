"""Damaged Parquet files by the hundred: each becomes a dataset with every row counted, or an error of one line."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from preprocessing.sources.layouts import open_source
from tests.preprocessing.hub_files import hub_table
from tests.preprocessing.mutations import mutate
from tests.preprocessing.raw_images import jpeg, preprocess

SECONDS = 10.0  # of processor time, which other work on the machine does not add to
ROWS = [(number % 3, f"{number}.jpg", jpeg(20, 20 + number, number)) for number in range(12)]
KINDS = (
    {"compression": "snappy", "row_group_size": 5},
    {"compression": "zstd", "data_page_version": "2.0"},
    {"compression": "none", "use_dictionary": False},
    {"compression": "gzip", "row_group_size": 1, "write_page_index": True},
)
NAMES = "train-00000-of-00002.parquet", "train-00001-of-00002.parquet"
common = settings(
    deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    found = []
    for number, options in enumerate(KINDS):
        path = tmp_path_factory.mktemp("whole") / f"{number}.parquet"
        pq.write_table(hub_table(ROWS, ["a", "b", "c"]), path, **options)
        found.append(path.read_bytes())
    return found


def read_all(root: Path) -> list[tuple[str, bytes]] | None:
    """All images of the source as (id, bytes); None if it is refused in one line."""
    started, found = time.process_time(), list[tuple[str, bytes]]()
    refusal: InputError | None = None
    try:
        source = open_source(open_store(root), "parquet")
        table = source.catalogue(source.classes()).splits["train"]
        extract = source.extract()
        for path in sorted(set(table["path"].to_pylist())):
            rows = [row for row in table.to_pylist() if row["path"] == path]
            rows.sort(key=lambda row: row["offset"])
            images = list(extract(path.decode(), [row["offset"] for row in rows]))
            found += [(row["id"], image) for row, image in zip(rows, images, strict=True)]
    except InputError as error:
        refusal = error
    assert time.process_time() - started < SECONDS
    if refusal is not None:
        assert type(refusal) is InputError, refusal
        assert "\n" not in str(refusal)
        assert len(str(refusal)) < 1000
        return None
    assert all(isinstance(image, bytes) for _, image in found)
    return found


def check(root: Path, wholes: list[bytes], which: int, damage: Callable[[bytes], bytes]) -> None:
    root.mkdir(exist_ok=True)
    (root / NAMES[0]).write_bytes(wholes[(which + 1) % len(wholes)])
    (root / NAMES[1]).write_bytes(damage(wholes[which]))
    found = read_all(root)
    if found is not None:  # no row of the whole file is lost, and no id counted twice
        assert len(found) >= len(ROWS)
        assert len({name for name, _ in found}) == len(found)


@settings(common, max_examples=150)
@given(st.integers(0, len(KINDS) - 1), st.integers(0, 2**32), st.integers(1, 3))
def test_a_mutated_file_is_read_or_refused(
    tmp_path: Path, wholes: list[bytes], which: int, seed: int, times: int
) -> None:
    check(tmp_path / "hub", wholes, which, lambda data: mutate(data, seed, times))


@settings(common, max_examples=150)
@given(st.integers(0, len(KINDS) - 1), st.integers(0, 2**32))
def test_a_mutated_footer_is_read_or_refused(tmp_path: Path, wholes: list[bytes], which: int, seed: int) -> None:
    def damage(data: bytes) -> bytes:
        size = int.from_bytes(data[-8:-4], "little")
        footer = mutate(data[-8 - size : -8], seed, 1)
        return data[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1"

    check(tmp_path / "hub", wholes, which, damage)


@settings(common, max_examples=100)
@given(st.integers(0, len(KINDS) - 1), st.integers(0))
def test_no_file_cut_short_passes_for_whole(tmp_path: Path, wholes: list[bytes], which: int, keep: int) -> None:
    root = tmp_path / "hub"
    root.mkdir(exist_ok=True)
    (root / NAMES[0]).write_bytes(wholes[0])
    (root / NAMES[1]).write_bytes(wholes[which][: keep % len(wholes[which])])
    assert read_all(root) is None


@pytest.mark.parametrize("seed", range(4))
def test_the_job_counts_every_row_of_a_damaged_file_or_makes_nothing(
    tmp_path: Path, wholes: list[bytes], seed: int
) -> None:
    chance = random.Random(seed)
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "train.parquet").write_bytes(mutate(wholes[seed % len(wholes)], chance.randrange(2**32), 1))
    manifest, refusal = None, None
    try:
        manifest = preprocess(tmp_path / "hub", tmp_path / "out", size=8, max_rejected=1.0)
    except InputError as error:
        refusal = str(error)
    if manifest is not None:
        assert manifest.images_in == manifest.rejected + manifest.splits["train"].count
    else:
        assert refusal
        assert "\n" not in refusal
        assert not (tmp_path / "out" / "manifest.json").exists()
