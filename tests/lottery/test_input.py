"""The stream of batches: the same whoever asks, however it is read and wherever it begins."""

import errno
import itertools
import os
import shutil
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lottery.experiment.sections import Data, Input
from lottery.input import assembler_processes
from lottery.input.assembler_processes import AssemblerError
from lottery.input.order import sample_order
from lottery.input.training_steps import TrainingSteps
from preprocessing.common.buffers import Buffers
from preprocessing.common.errors import InputError
from preprocessing.dataset.opening import Dataset, Split
from preprocessing.dataset.row_group_reader import RowGroupReader
from tests.lottery.datasets import local_dataset, write_dataset

pytestmark = pytest.mark.usefixtures("tensorflow")

AUGMENTED = Data(batch=12, crop=11, flip=True, crop_scale=(0.2, 1.0), colour=0.3)


@pytest.fixture(scope="module", params=["tensor", "jpeg"])
def stored(request, tmp_path_factory):
    uri, everything = local_dataset(tmp_path_factory.mktemp(request.param), codec=request.param)
    return Dataset.open(uri), everything


@pytest.fixture(scope="module")
def tensors(tmp_path_factory):
    uri, everything = local_dataset(tmp_path_factory.mktemp("tensors"))
    return Dataset.open(uri), everything


@pytest.fixture(scope="module")
def training_input(tensorflow):
    from lottery.input.training_batches import TrainingInput

    return TrainingInput


def read(source, runs):
    """All batches of a stream, as arrays."""
    parts = [(np.asarray(images), np.asarray(labels)) for images, labels in source.stream(runs)]
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


@pytest.mark.parametrize("window", ["all", 3])
@pytest.mark.parametrize("mapped", [True, False])
def test_batches_are_the_canonical_order(training_input, stored, window, mapped):
    dataset, everything = stored
    images, labels = everything["train"]
    source = training_input(dataset, Data(batch=12), 5, Input(shuffle_window=window), mapped=mapped)
    got, got_labels = read(source, [(0, 5), (5, 16), (16, 20)])  # two and a half epochs of 8 steps: 4 images left out
    starts = dataset.split("train").row_group_starts
    orders = [sample_order(dataset.content_hash, 5, epoch, starts, window)[:96] for epoch in range(3)]
    rows = np.concatenate(orders)[: 20 * 12]
    assert np.array_equal(got.reshape(240, 16, 16, 3), images[rows])
    assert np.array_equal(got_labels.reshape(240), labels[rows])


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    window=st.sampled_from(["all", 1, 2, 7]),
    start=st.integers(0, 30),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    workers=st.integers(1, 13),
    mapped=st.booleans(),
    threads=st.integers(1, 3),
)
@example(window="all", start=0, lengths=[2], workers=13, mapped=True, threads=1)  # whose share of a batch is empty
def test_any_start_worker_and_path_give_the_same(
    training_input, stored, window, start, lengths, workers, mapped, threads
):
    dataset, _ = stored
    reference = training_input(dataset, AUGMENTED, 1, Input(shuffle_window=window, threads=1))
    edges = np.cumsum([start, *lengths]).tolist()
    expected = [reference.batch(step) for step in range(edges[0], edges[-1])]
    worker = start % workers
    among = training_input(
        dataset,
        AUGMENTED,
        1,
        Input(shuffle_window=window, threads=threads, read_threads=threads),
        worker=worker,
        workers=workers,
        mapped=mapped,
    )
    runs = list(itertools.pairwise(edges))
    images, labels = read(among, runs)
    share = slice(12 * worker // workers, 12 * (worker + 1) // workers)
    assert np.array_equal(images, np.stack([batch[share] for batch, _ in expected]))
    assert np.array_equal(labels, np.stack([batch[share] for _, batch in expected]))


def test_threads_share_the_work_and_give_the_same(training_input, stored, monkeypatch):
    """Decoding JPEGs too; and evaluation."""
    from lottery.input.evaluation_batches import EvaluationInput

    monkeypatch.setattr("lottery.input.batch_assembler._FEW_BYTES", 0)
    dataset, _ = stored
    at_work, image = set(), Split.image

    def noted(split, blob, row):
        at_work.add(threading.current_thread().name)
        return image(split, blob, row)

    monkeypatch.setattr(Split, "image", noted)
    one, three = (Input(threads=threads) for threads in (1, 3))
    expected = [read(training_input(dataset, AUGMENTED, 1, one), [(0, 8)])]
    expected += EvaluationInput(dataset, Data(batch=8), one).batches()
    assert not any(name.startswith("input") for name in at_work)
    found = [read(training_input(dataset, AUGMENTED, 1, three), [(0, 8)])]
    assert len(at_work & {"input_0", "input_1"}) == 2
    found += EvaluationInput(dataset, Data(batch=8), three).batches()
    for before, after in zip(expected, found, strict=True):
        assert np.array_equal(before[0], after[0])
        assert np.array_equal(before[1], after[1])


@pytest.fixture
def processes(monkeypatch):
    """The processes that were started; all streams are long enough for them."""
    started, start = [], assembler_processes._start
    monkeypatch.setattr("lottery.input.training_batches.LONG_BYTES", 1)

    def noted(request):
        started.append(start(request))
        return started[-1]

    monkeypatch.setattr(assembler_processes, "_start", noted)
    return started


def test_processes_share_the_work_and_give_the_same(training_input, stored, processes):
    dataset, _ = stored
    expected = [read(training_input(dataset, AUGMENTED, 1, Input(threads=1)), [(3, 5), (5, 11)])]
    assert not processes
    found = [read(training_input(dataset, AUGMENTED, 1, Input(threads=2)), [(3, 5), (5, 11)])]
    assert len(processes) == 2
    assert all(np.array_equal(one, other) for one, other in zip(expected[0], found[0], strict=True))


def test_a_stream_ends_its_processes_when_it_is_left(training_input, tensors, processes):
    stream = training_input(tensors[0], AUGMENTED, 1, Input(threads=2)).stream([(step, step + 1) for step in range(99)])
    next(stream)
    stream.close()
    assert len(processes) == 2
    assert all(process.wait(20) < 0 for process in processes)


def test_a_killed_process_ends_the_stream(training_input, tensors, processes):
    stream = training_input(tensors[0], AUGMENTED, 1, Input(threads=2)).stream(
        [(step, step + 1) for step in range(999)]
    )
    next(stream)
    processes[0].kill()
    with pytest.raises(AssemblerError, match=r"has died \(SIGKILL\)"):
        list(stream)


def test_an_unforeseen_error_of_a_thread_is_reported_as_a_process_reports_it(training_input, tensors, monkeypatch):
    def breaks(self, runs):
        raise OverflowError("too large")

    monkeypatch.setattr(TrainingSteps, "runs", breaks)
    with pytest.raises(AssemblerError, match="^OverflowError: too large$"):
        list(training_input(tensors[0], AUGMENTED, 1).stream([(0, 1)]))


def test_without_shared_memory_threads_assemble(training_input, tensors, processes, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    source = training_input(tensors[0], AUGMENTED, 1, Input(threads=2))
    assert np.array_equal(read(source, [(0, 4)])[0][3], source.batch(3)[0])
    assert not processes
    assert (
        "threads assemble the batches, which is slower, because processes could not be started: [Errno 28]"
        in caplog.text
    )


@pytest.mark.parametrize(("mapped", "threads"), [(False, 2), (True, 1)])
def test_no_process_is_started_in_vain(training_input, tensors, processes, mapped, threads):
    """Of a remote dataset each would fetch everything."""
    read(training_input(tensors[0], AUGMENTED, 1, Input(threads=threads), mapped=mapped), [(0, 4)])
    assert not processes


@pytest.mark.parametrize("mapped", [True, False])
def test_no_batch_changes_while_it_is_held(training_input, tensors, mapped):
    """Memory is used again, but never while a tensor, or an array made of one, looks at it."""
    dataset, _ = tensors
    source = training_input(dataset, AUGMENTED, 0, mapped=mapped)
    held, copies = [], []
    for epoch in range(3):
        for images, labels in source.stream([(step, step + 1) for step in range(8 * epoch, 8 * epoch + 8)]):
            held.append((images, labels, images[0, 3:]))
            copies.append((images.numpy().copy(), labels.numpy().copy()))
    expected = [source.batch(step) for step in range(24)]
    for (images, labels, part), copy, (batch, batch_labels) in zip(held, copies, expected, strict=True):
        for array, other in ((images.numpy(), copy[0]), (labels.numpy(), copy[1])):
            assert np.array_equal(array, other)
        assert np.array_equal(images[0].numpy(), batch)
        assert np.array_equal(part.numpy(), batch[3:])
        assert np.array_equal(labels[0].numpy(), batch_labels)


@pytest.fixture
def memory(monkeypatch):
    """The address and size of each array that buffers gave."""
    given, take = [], Buffers.take

    def noted(self, shape):
        array = take(self, shape)
        given.append((array.ctypes.data, array.nbytes))
        return array

    monkeypatch.setattr(Buffers, "take", noted)
    return given


def test_memory_is_used_again(training_input, tensors, memory):
    source = training_input(tensors[0], Data(batch=12), 0)
    for _ in source.stream([(step, step + 1) for step in range(200)]):
        pass
    assert len(memory) == 200
    assert len(set(memory)) <= 8


def test_tensorflow_takes_batches_as_they_are(training_input, tensors, memory):
    """A copy of every batch would halve the speed: the tensor must look at the pipeline's own memory."""
    source = training_input(tensors[0], Data(batch=12), 0)
    tensor, _ = next(source.stream([(0, 1)]))
    shared = np.from_dlpack(_DLPack(tensor))
    assert (shared.ctypes.data, shared.nbytes) in memory


def test_memory_is_not_used_again_while_tensorflow_has_it(training_input, tensors):
    stream = training_input(tensors[0], Data(batch=12), 0).stream([(step, step + 1) for step in range(9)])
    tensor, _ = next(stream)
    before = tensor.numpy()
    assert len(list(stream)) == 8
    assert np.array_equal(np.from_dlpack(_DLPack(tensor)), before)


class _DLPack:
    """A tensor under numpy's protocol."""

    def __init__(self, tensor):
        import tensorflow as tf

        self._capsule = tf.experimental.dlpack.to_dlpack(tensor)

    def __dlpack__(self, **_):
        return self._capsule

    def __dlpack_device__(self):
        return 1, 0


def test_a_worker_gets_its_part_of_each_batch(training_input, tensors):
    source = training_input(tensors[0], Data(batch=12, crop=9), 0, worker=1, workers=3)
    images, labels = next(source.stream([(0, 3)]))
    assert images.shape.as_list() == [3, 4, 9, 9, 3]
    assert labels.shape.as_list() == [3, 4]
    assert source.batch(0)[0].shape == (4, 9, 9, 3)
    # Workers that trained runs of different lengths would wait for each other for ever.
    assert source.longest_run == training_input(tensors[0], Data(batch=12, crop=9), 0).longest_run


@pytest.mark.parametrize("mapped", [True, False])
def test_evaluation_is_every_image_in_order_and_its_centre(tensors, stored, mapped):
    from lottery.input.evaluation_batches import EvaluationInput

    dataset, everything = stored
    images, labels = everything["val"]
    batches = list(EvaluationInput(dataset, Data(batch=8, crop=12), mapped=mapped).batches())
    assert [len(batch) for batch, _ in batches] == [8, 8, 5]  # the last is partial
    assert np.array_equal(np.concatenate([batch for batch, _ in batches]), images[:, 2:14, 2:14])
    assert np.array_equal(np.concatenate([batch for _, batch in batches]), labels)


def test_evaluation_is_of_the_split_that_is_asked_for(tmp_path):
    from lottery.input.evaluation_batches import EvaluationInput

    everything = write_dataset(str(tmp_path / "held"), {"train": [40], "val": [21], "minival": [13]})
    dataset = Dataset.open(str(tmp_path / "held"))
    batches = list(EvaluationInput(dataset, Data(batch=8, evaluate="minival")).batches())
    assert np.array_equal(np.concatenate([images for images, _ in batches]), everything["minival"][0])


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("batch", [8, 20])
def test_workers_share_each_batch_of_the_evaluation(stored, mapped, batch):
    from lottery.input.evaluation_batches import EvaluationInput

    dataset, _ = stored
    data = Data(batch=batch, crop=12)
    whole = list(EvaluationInput(dataset, data, mapped=mapped).batches())
    parts = [
        list(EvaluationInput(dataset, data, worker=worker, workers=2, mapped=mapped).batches()) for worker in range(2)
    ]
    assert len(whole) == len(parts[0]) == len(parts[1])
    for expected, *shares in zip(whole, *parts, strict=True):
        assert {len(labels) for _, labels in shares} <= {len(expected[1]) // 2, -(-len(expected[1]) // 2)}
        for place in range(2):
            assert np.array_equal(np.concatenate([share[place] for share in shares]), expected[place])


def test_a_resume_is_a_seek(training_input, tensors, monkeypatch):
    """The first batch of a step far on reads that batch's row groups, and none of those before it."""
    monkeypatch.setattr("preprocessing.dataset.split.READ_AHEAD_BYTES", 1)  # else later batches' are on their way
    monkeypatch.setattr("preprocessing.dataset.row_groups.MEMORY_CACHE_BYTES", 1)
    fetched, fetch = [], RowGroupReader.fetch

    def noted(self, file, group):
        fetched.append((file.name, group))
        return fetch(self, file, group)

    monkeypatch.setattr(RowGroupReader, "fetch", noted)
    dataset, step, window = tensors[0], 10**6, Input(shuffle_window=2)
    images, _ = read(training_input(dataset, AUGMENTED, 0, window, mapped=False), [(step, step + 1)])
    starts = dataset.split("train").row_group_starts
    epoch, place = divmod(step, 8)
    rows = sample_order(dataset.content_hash, 0, epoch, starts, 2)[12 * place : 12 * place + 12]
    needed = np.unique(np.searchsorted(starts, rows, side="right"))
    assert len(fetched) == len(needed) < len(starts) - 1
    assert np.array_equal(images[0], training_input(dataset, AUGMENTED, 0, window).batch(step)[0])


@pytest.mark.parametrize("mapped", [True, False])
def test_a_file_that_disappears_is_one_clear_error(training_input, tmp_path, mapped):
    uri, _ = local_dataset(tmp_path)
    source = training_input(Dataset.open(uri), Data(batch=12), 0, mapped=mapped)
    shutil.rmtree(tmp_path / "dataset" / "train")
    with pytest.raises(InputError, match=r"train/part-0000\d\.parquet is damaged: it is missing; copy the file again"):
        list(source.stream([(0, 8)]))


def test_a_stream_can_be_left_and_begun_anew(training_input, tensors):
    source = training_input(tensors[0], Data(batch=12), 0, mapped=False)
    first = next(source.stream([(0, 1), (1, 2), (2, 100)]))[0].numpy()
    assert np.array_equal(first, next(source.stream([(0, 1)]))[0].numpy())


@pytest.mark.parametrize("window", ["all", 100])
def test_a_window_that_cannot_be_held_is_refused(training_input, tensors, monkeypatch, tmp_path, window):
    monkeypatch.setattr("preprocessing.dataset.row_groups.MEMORY_CACHE_BYTES", 10_000)
    monkeypatch.setattr("lottery.input.shuffle_window.READ_AHEAD_BYTES", 60_000)
    dataset = tensors[0]
    settings = Input(shuffle_window=window)
    with pytest.raises(
        InputError, match=rf"input\.shuffle_window: {window} needs too much memory .*--set input\.shuffle_window=3, or"
    ):
        training_input(dataset, Data(batch=12), 0, settings, mapped=False)
    training_input(dataset, Data(batch=12), 0, settings)
    training_input(dataset, Data(batch=12), 0, Input(shuffle_window=3), mapped=False)
    kept = Input(shuffle_window=window, cache_dir=str(tmp_path / "cache"))
    source = training_input(dataset, Data(batch=12), 0, kept, mapped=False)
    assert np.array_equal(
        read(source, [(0, 8)])[0][3], training_input(dataset, Data(batch=12), 0, settings).batch(3)[0]
    )


def test_crop_larger_than_the_images(training_input, tensors):
    with pytest.raises(InputError, match=r"data\.crop: 20 px is more than the dataset's 16 px"):
        training_input(tensors[0], Data(batch=12, crop=20), 0)
