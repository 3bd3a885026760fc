"""Every byte of a dataset against its manifest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from preprocessing.common.errors import InputError
from preprocessing.dataset.opening import Dataset
from preprocessing.dataset.verify import verify
from tests.preprocessing.raw_images import preprocess


@pytest.mark.parametrize("codec", ["tensor", "jpeg"])
def test_a_sound_dataset(raw: Path, tmp_path: Path, codec: str) -> None:
    preprocess(raw, tmp_path / "out", codec=codec, rows_per_shard=20)
    told: list[str] = []
    assert verify(Dataset.open(str(tmp_path / "out")), verified=lambda file: told.append(file.name)) == 54
    assert sorted(told) == [f"train/part-0000{number}.parquet" for number in range(3)] + ["val/part-00000.parquet"]


@pytest.mark.parametrize("column", ["image", "label", "id"])
def test_a_bit_that_fell_over_is_found(made: Path, tmp_path: Path, column: str) -> None:
    """Not one of these damages is seen by reading alone."""
    copy = Path(shutil.copytree(made, tmp_path / "copy"))
    path = copy / "train" / "part-00001.parquet"
    data = bytearray(path.read_bytes())
    if column == "image":
        at = data.index(b"\x93NUMPY") + 1000
    else:
        name = data.index(b"n0144", data.index(b"\x93NUMPY") + 7 * 3204)
        at = name + 8 if column == "id" else data.rindex(b"\x93NUMPY", 0, name) + 3200 + 40
    data[at] ^= 1
    path.write_bytes(data)
    dataset = Dataset.open(str(copy))
    with pytest.raises(InputError, match=r"train/part-00001\.parquet is damaged: ") as caught:
        verify(dataset)
    assert "\n" not in str(caught.value)


def test_files_swapped_or_missing(made: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(made, tmp_path / "copy"))
    first, second = (copy / "train" / f"part-0000{number}.parquet" for number in (0, 1))
    swapped = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(swapped)
    with pytest.raises(
        InputError,
        match=r"part-00000\.parquet is damaged: its rows have the hash \w{12}, not \w{12} as in",
    ):
        verify(Dataset.open(str(copy)))
    first.unlink()
    with pytest.raises(InputError, match=r"part-00000\.parquet is damaged: it is missing"):
        verify(Dataset.open(str(copy)))
