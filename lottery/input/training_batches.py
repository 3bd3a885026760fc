"""The training split as tensors: batches in the canonical order, from any step on."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable
from contextlib import ExitStack, closing
from typing import Any

import numpy as np
import tensorflow as tf

from lottery.experiment.sections import Data, Input
from lottery.input import augment, freed_memory
from lottery.input.assembler_process import ALIGNMENT, Request, Slots
from lottery.input.assembler_processes import LONG_BYTES, AssemblerError, AssemblerProcesses, slot_count
from lottery.input.batch_assembler import Images, Labels, threads
from lottery.input.device_augment import augment_run
from lottery.input.training_steps import TrainingSteps
from preprocessing.common.errors import InputError, failure_of
from preprocessing.dataset.opening import Dataset

logger = logging.getLogger(__name__)


class TrainingInput:
    """The training split's batches. Step s has the s-th batch of the canonical order, whoever asks, from any start.

    With `data.augment: device` these are whole images, which `augment` crops, resizes, flips and recolours.

    Args:
        seed: of the order and of the augmentation.
        settings: how to read.
        worker, workers: of each global batch this is the part of worker `worker` of `workers`.
        mapped: False reads a local dataset as if it were remote, for tests and benchmarks.

    Raises InputError if the crop is larger than the images, or the shuffle window does not fit into memory.
    """

    def __init__(
        self,
        dataset: Dataset,
        data: Data,
        seed: int,
        settings: Input | None = None,
        *,
        worker: int = 0,
        workers: int = 1,
        mapped: bool = True,
    ) -> None:
        settings = settings or Input()
        self._steps = TrainingSteps(dataset, data, seed, settings, worker=worker, workers=workers, mapped=mapped)
        self._threads = threads(settings)
        run, batch, shape = self.longest_run, self._steps.worker_batch, self._steps.image_shape
        self._step_bytes = batch * int(np.prod(shape))
        slots = Slots(slot_count(run * self._step_bytes), run, batch, shape)
        self._request = Request(dataset.uri, dataset.content_hash, data, seed, settings, worker, workers, 0, slots)

    @property
    def longest_run(self) -> int:
        """How many batches one element of the stream should hold at most; the same for any number of workers."""
        return self._steps.longest_run

    def batch(self, step: int) -> tuple[Images, Labels]:
        """The batch of a step, or this worker's part of it: uint8 [batch, side, side, 3] and int32 [batch]."""
        return self._steps.batch(step)

    def augment(self, images: Any, first: int, last: int) -> Any:
        """The images of steps [first, last), augmented on the device if that is what the experiment says.

        uint8 [steps, batch, side, side, 3], a pure function of (seed, epoch, position) and the images.
        """
        if self._request.data.augment == "host":
            return images
        crops = self._steps.crops(first, last)
        side = augment.side(self._request.data, images.shape[2])
        return augment_run(images, crops.boxes, crops.flipped, crops.colour_factors, side)

    def stream(self, runs: Iterable[tuple[int, int]]) -> Generator[tuple[Any, Any], None, None]:
        """For each [first, last) of `runs` its batches: uint8 [steps, batch, side, side, 3], int32 [steps, batch].

        They are tensors on the CPU. Images are in the memory in which they were assembled, not copied. `runs` is
        iterated more than once, so it must not be an iterator.

        Raises InputError if the data cannot be read, MemoryError if memory is full, else AssemblerError.
        """
        freed_memory.keep()
        with closing(self._runs(runs)) as assembled:
            for images, labels in assembled:
                tensors = _as_tensor(images), _as_tensor(labels)
                del images, labels  # it is the caller's to say how long their memory is in use
                yield tensors
                del tensors

    def _runs(self, runs: Iterable[tuple[int, int]]) -> Generator[tuple[Images, Labels], None, None]:
        try:
            yield from self._assembled(runs)
        except (InputError, AssemblerError, MemoryError):
            raise
        except Exception as error:  # as a process reports it
            raise AssemblerError(failure_of(error).message) from error

    def _assembled(self, runs: Iterable[tuple[int, int]]) -> Generator[tuple[Images, Labels], None, None]:
        with ExitStack() as stack:
            assembler: TrainingSteps | AssemblerProcesses = self._steps
            if self._is_for_processes(runs):
                try:
                    assembler = stack.enter_context(AssemblerProcesses(self._request, self._threads))
                except OSError as error:
                    logger.warning(
                        "threads assemble the batches, which is slower, because processes could not be started: %s",
                        error,
                    )
            yield from assembler.runs(runs)

    def _is_for_processes(self, runs: Iterable[tuple[int, int]]) -> bool:
        """Whether processes assemble these runs: if there is much to do, each fits a slot, and files are mapped.

        If the dataset is remote, every process would fetch every row group.
        """
        if self._threads == 1 or not self._steps.mapped:
            return False
        bytes_so_far = 0
        for first, last in runs:
            if last - first > self.longest_run:
                return False
            bytes_so_far += (last - first) * self._step_bytes
            if bytes_so_far >= LONG_BYTES:
                return True
        return False


def _as_tensor(array: Images | Labels) -> Any:
    """A tensor on the CPU: of the array's own memory if it lies as TensorFlow's kernels need it, else a copy."""
    if array.ctypes.data % ALIGNMENT:
        with tf.device("CPU:0"):  # without this, on the first GPU
            return tf.convert_to_tensor(array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
