"""What the input of a task takes of main memory. TensorFlow is not loaded here."""

from __future__ import annotations

import msgspec

from lottery.experiment.sections import Data, Input
from lottery.input.assembler_process import MAPPED_BYTES
from lottery.input.assembler_processes import LONG_BYTES, slot_count
from lottery.input.batch_assembler import threads
from lottery.input.training_steps import assembled_side, longest_run

_PROCESS_BYTES = 100 * 2**20  # of a process that assembles, without what it shares: Python and its libraries


class InputMemory(msgspec.Struct, frozen=True):
    """What a task's input takes: `batches` bytes for all batches in memory, and more if processes assemble them.

    `long` says whether they do, where there is more than one core.
    """

    batches: int
    long: bool
    settings: Input

    def bytes(self, cores: int) -> int:
        """The most that it takes in a task of `cores` cores, in bytes."""
        processes = threads(self.settings, cores)
        if not self.long or processes == 1:
            return self.batches
        return self.batches + processes * _PROCESS_BYTES + MAPPED_BYTES


def input_memory(data: Data, settings: Input, size: int, steps: int, workers: int = 1) -> InputMemory:
    """For `steps` steps of training on images of `size` pixels, in one of `workers` that share each batch."""
    step_bytes = -(-data.batch // workers) * assembled_side(data, size) ** 2 * 3
    run_bytes = longest_run(data, size) * step_bytes
    return InputMemory(slot_count(run_bytes) * run_bytes, steps * step_bytes >= LONG_BYTES, settings)
