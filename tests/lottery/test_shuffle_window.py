"""A shuffle window that cannot be held is refused before anything starts."""

import pyarrow.parquet as pq
import pytest

from lottery.driver.prepare import prepare
from preprocessing.common.errors import InputError
from tests.lottery.datasets import local_dataset

YAML = """
name: window
data: {batch: 12}
model: {name: lenet_300_100}
training: {length: 2ep, optimizer: {name: sgd}, learning_rate: {peak: 0.1}}
trellis: [0]
masks: {densities: [0.5]}
"""


@pytest.fixture
def experiment(tmp_path):
    path = tmp_path / "window.yaml"
    path.write_text(YAML)
    return str(path)


def compress(folder, name):
    """Writes a file of the dataset anew in compressed pages, and its size into the manifest."""
    path = folder / name
    size = path.stat().st_size
    table = pq.read_table(path)
    pq.write_table(table, path, row_group_size=8, compression="zstd", use_dictionary=False, store_schema=False)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f": {size},", f": {path.stat().st_size},"))


def test_compressed_files_are_not_read_in_any_order(tmp_path, experiment, monkeypatch):
    uri, _ = local_dataset(tmp_path)
    prepare(experiment, uri, str(tmp_path / "runs"))
    for number in range(3):
        compress(tmp_path / "dataset", f"train/part-0000{number}.parquet")
    prepare(experiment, uri, str(tmp_path / "runs"))  # so small a split is held whole
    monkeypatch.setattr("preprocessing.dataset.row_groups.MEMORY_CACHE_BYTES", 10_000)
    monkeypatch.setattr("lottery.input.shuffle_window.READ_AHEAD_BYTES", 60_000)
    with pytest.raises(InputError, match=r"window: all needs too much memory .*--set input\.shuffle_window=\d+, or"):
        prepare(experiment, uri, str(tmp_path / "runs"))
    prepare(experiment, uri, str(tmp_path / "runs"), ["input.shuffle_window=2"])
    cached = [f"input.cache_dir={tmp_path / 'cache'}", "input.cache_bytes=1_000_000"]
    prepare(experiment, uri, str(tmp_path / "runs"), cached)
    assert not (tmp_path / "cache").exists()  # that is the tasks' to make
    with pytest.raises(InputError, match="input.cache_bytes as large as the dataset"):
        prepare(experiment, uri, str(tmp_path / "runs"), [cached[0], "input.cache_bytes=1000"])
