"""A dataset over S3's protocol, through a proxy that answers 500, answers late and cuts connections."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from lottery.experiment.sections import Data, Input
from preprocessing.common.errors import InputError
from preprocessing.dataset.opening import Dataset
from tests.lottery.datasets import write_dataset
from tests.lottery.s3_proxy import CREDENTIALS, Proxy, s3_proxy

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with s3_proxy() as started:
        yield started


@pytest.fixture(scope="module", params=["tensor", "jpeg"])
def far(
    request: pytest.FixtureRequest, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """The same dataset by URI and by path."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        uri = proxy.uri(request.param)
        path = str(tmp_path_factory.mktemp("near") / request.param)
        for place in (uri, path):
            write_dataset(place, {"train": [40, 40, 20], "val": [21]}, codec=request.param)
        yield uri, path


@pytest.fixture(autouse=True)
def no_faults_afterwards(proxy: Proxy) -> Iterator[None]:
    proxy.met.clear()
    proxy.ranges.clear()
    yield
    proxy.fault = lambda number: ""


DATA = Data(batch=12, crop=11, flip=True)
WINDOW = Input(shuffle_window=3, read_threads=3)


def epoch(uri: str, settings: Input = WINDOW) -> tuple[np.ndarray, np.ndarray]:
    """An epoch and a bit of training, and the evaluation."""
    from lottery.input.evaluation_batches import EvaluationInput
    from lottery.input.training_batches import TrainingInput

    dataset = Dataset.open(uri)
    parts = [
        (np.asarray(images).reshape(-1, 11, 11, 3), np.asarray(labels).reshape(-1))
        for images, labels in TrainingInput(dataset, DATA, 3, settings).stream([(3, 5), (5, 14)])
    ]
    parts += EvaluationInput(dataset, DATA, settings).batches()
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


@pytest.mark.parametrize("fault", ["", "500", "late", "cut", "all"])
def test_nothing_is_lost(tensorflow: object, proxy: Proxy, far: tuple[str, str], fault: str) -> None:
    uri, path = far
    faults = ["500", "late", "cut"] if fault == "all" else [fault]
    random = np.random.default_rng(0)
    lot = random.random(100_000)
    proxy.fault = lambda number: str(faults[number % len(faults)]) if lot[number] < 0.3 else ""
    images, labels = epoch(uri)
    expected, expected_labels = epoch(path)
    assert np.array_equal(images, expected)
    assert np.array_equal(labels, expected_labels)
    assert set(filter(None, proxy.met)) == set(filter(None, faults))


def test_the_cache_spares_the_second_epoch(
    tensorflow: object, proxy: Proxy, far: tuple[str, str], tmp_path: object
) -> None:
    uri, path = far
    settings = Input(shuffle_window=3, cache_dir=str(tmp_path))
    epoch(uri, settings)
    proxy.ranges.clear()
    images, _ = epoch(uri, settings)
    assert np.array_equal(images, epoch(path)[0])
    assert [where for where in proxy.ranges if "parquet" in where] == []


@pytest.mark.parametrize("far", ["tensor"], indirect=True)  # it takes long: the client's own retries cannot be set
def test_a_store_that_stays_broken_is_one_clear_error(
    tensorflow: object, proxy: Proxy, far: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("preprocessing.common.retries.PAUSES", (0.01,))
    uri, _ = far
    Dataset.open(uri)
    settled = next(proxy.count)
    proxy.fault = lambda number: "cut" if number > settled + 3 else ""
    with pytest.raises(InputError, match=r"(cannot read s3://bucket/.*part-0000\d\.parquet|manifest)") as caught:
        epoch(uri)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_clear_error(tensorflow: object, proxy: Proxy, far: tuple[str, str]) -> None:
    from preprocessing.common.storage import open_store

    uri, _ = far
    store = open_store(uri)
    data = store.read("train/part-00001.parquet")
    store.delete("train/part-00001.parquet")
    try:
        with pytest.raises(InputError, match=r"train/part-00001\.parquet is damaged: it is missing; copy the file"):
            epoch(uri)
    finally:
        store.write("train/part-00001.parquet", data)
