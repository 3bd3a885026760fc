"""A process that assembles its part of every run into memory that it shares with the process that asks.

It runs this module. Standard input brings a line of JSON, `Request`, and then an `ORDER` for each run; standard output
has a line for each order and one when it is ready: empty, or a `Failure` in JSON. It ends when standard input does.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys

import msgspec
import numpy as np

from lottery.experiment.sections import Data, Input
from lottery.input.batch_assembler import Images, Labels
from lottery.input.training_steps import TrainingSteps
from preprocessing.common.errors import InputError, failure_of
from preprocessing.dataset.opening import Dataset

ORDER = struct.Struct("<qqq")  # slot, first step, last step
ALIGNMENT = 64  # TensorFlow uses an array in place if its address is a multiple of this
MAPPED_BYTES = 2 * 2**30  # of the dataset's files that all processes together have mapped, at most, before they let go


class Slots(msgspec.Struct, frozen=True):
    """How shared memory is divided: `count` slots of `steps` batches of `batch` images, and their labels."""

    count: int
    steps: int
    batch: int
    image_shape: tuple[int, int, int]

    @property
    def bytes(self) -> int:
        """The size of all slots."""
        return self.count * self._slot_bytes

    def images(self, memory: Images, slot: int, steps: int) -> Images:
        """A slot's images, uint8 [steps, batch, height, width, 3]: a view of the slots' memory."""
        shape = steps, self.batch, *self.image_shape
        start = slot * self._slot_bytes
        return memory[start : start + int(np.prod(shape))].reshape(shape)

    def labels(self, memory: Images, slot: int, steps: int) -> Labels:
        """A slot's labels, int32 [steps, batch]: a view of the slots' memory."""
        start = slot * self._slot_bytes + self._image_bytes
        return memory[start : start + 4 * steps * self.batch].view(np.int32).reshape(steps, self.batch)

    @property
    def _image_bytes(self) -> int:
        return _rounded_up(self.steps * self.batch * int(np.prod(self.image_shape)))

    @property
    def _slot_bytes(self) -> int:
        return self._image_bytes + _rounded_up(4 * self.steps * self.batch)


class Request(msgspec.Struct, frozen=True):
    """What a process works on: the arguments of `TrainingSteps`, its part among the processes, the shared memory.

    `memory` is the descriptor of the slots.
    """

    dataset: str
    content_hash: str
    data: Data
    seed: int
    settings: Input
    worker: int
    workers: int
    memory: int
    slots: Slots
    part: int = 0
    parts: int = 1


def open_steps(request: Request) -> TrainingSteps:
    """The batches of a request. Raises InputError if the dataset is no longer what it was."""
    dataset = Dataset.open(request.dataset)
    if dataset.content_hash != request.content_hash:
        raise InputError(f"dataset {request.dataset}: has changed since training began; run the sweep again")
    settings = msgspec.structs.replace(request.settings, threads=1)
    return TrainingSteps(dataset, request.data, request.seed, settings, worker=request.worker, workers=request.workers)


def fill_part(request: Request, steps: TrainingSteps, memory: Images, slot: int, first: int, last: int) -> None:
    """Assembles this process' part of the images of steps [first, last) into a slot."""
    batch = request.slots.batch
    images = request.slots.images(memory, slot, last - first)
    labels = request.slots.labels(memory, slot, last - first)
    begin, end = ((last - first) * batch * part // request.parts for part in (request.part, request.part + 1))
    for index in range(begin // batch, -(-end // batch)):
        part = slice(max(begin - index * batch, 0), min(end - index * batch, batch))
        steps.fill(first + index, part.start, images[index, part], labels[index, part])


def main() -> None:
    """Serves until standard input ends."""
    # Whatever else prints may not get between the answers.
    orders, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    try:
        request = msgspec.json.decode(orders.readline(), type=Request)
        memory = np.frombuffer(mmap.mmap(request.memory, request.slots.bytes), np.uint8)
        steps = open_steps(request)
        answers.write(b"\n")
        mapped, most = 0, MAPPED_BYTES // request.parts
        while len(order := orders.read(ORDER.size)) == ORDER.size:
            slot, first, last = ORDER.unpack(order)
            fill_part(request, steps, memory, slot, first, last)
            answers.write(b"\n")
            mapped += (last - first) * request.slots.batch * steps.stored_bytes // request.parts
            if mapped > most:
                steps.release()
                mapped = 0
    except BrokenPipeError:
        pass  # nobody is waiting any more
    except Exception as error:
        answers.write(msgspec.json.encode(failure_of(error)) + b"\n")


def _rounded_up(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


if __name__ == "__main__":
    main()
