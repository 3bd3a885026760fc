"""What a gang task and its child process tell each other: instructions, events, exit statuses, notice.

What a child is told (instructions, a question, a request) is one line of JSON on its standard input. Events are lines
of JSON on its standard output. A child that fails gives the reason in its last event, `Failed`; its exit status speaks
for one that dies without a word.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import msgspec

from lottery.experiment.config import Experiment
from lottery.input.input_memory import InputMemory
from lottery.run.dataset_record import DatasetRecord
from lottery.run.heartbeats import Activity
from lottery.tickets.tickets import Ticket
from preprocessing.common.errors import EXIT_BAD_INPUT, EXIT_STORAGE, Failure, Kind

# A child's exit status if its bundle does not fit into memory; a smaller one may.
EXIT_OUT_OF_MEMORY = 3
# A child's exit status if it does not see all GPUs that Spark gave its task.
EXIT_NO_GPUS = 4
# A child's exit status if it was told to leave, saved and left; the same as a shell's for SIGTERM.
EXIT_NOTICE = 128 + signal.SIGTERM
NOTICE = 30.0  # seconds between being told to leave and being killed

# On a line between networks: where batch norm's statistics come from.
INTERPOLATED, RECOMPUTED, NO_STATISTICS = "interpolated", "recomputed", "none"

KINDS = {
    EXIT_BAD_INPUT: Kind.BAD_INPUT,
    EXIT_OUT_OF_MEMORY: Kind.OUT_OF_MEMORY,
    EXIT_NO_GPUS: Kind.GPU_LOST,
    EXIT_STORAGE: Kind.STORAGE,
}


class Assignment(msgspec.Struct, frozen=True):
    """What a task is asked to do: train these tickets; without tickets, the rest of the dense run and the masks."""

    run: str  # URI of the run directory
    home: str  # URI of the whole sweep's run directory, where its tasks meet
    data: str  # URI of the dataset
    dataset_hash: str  # of the dataset that the driver saw
    train_images: int
    experiment: Experiment
    input_memory: InputMemory
    tickets: tuple[Ticket, ...] = ()
    masks: bool = True  # without tickets: whether to make the masks; tasks that train together never do


class TaskPlacement(msgspec.Struct, frozen=True):
    """Where a task runs: its rank, its executor's address, and what Spark gave it."""

    task: int = 0  # rank in the gang
    executor: str = ""  # address
    host: str = ""
    gpus: tuple[str, ...] = ()  # addresses
    cores: int = 1
    tasks: int = 1  # in the whole gang
    tasks_on_host: int = 1
    memory: int | None = None  # bytes that the executor's container leaves this task; None: as much as the machine has
    endpoints: tuple[str, ...] = ()  # of the tasks that train together, this one's among them; empty if it is alone

    @property
    def workers(self) -> int:
        """How many tasks train together."""
        return max(1, len(self.endpoints))

    @property
    def worker(self) -> int:
        """Its rank among them; 0 is the chief, who writes."""
        return self.task % self.workers

    @property
    def group(self) -> int:
        """Which of the gang's groups that is."""
        return self.task // self.workers


class _Line(msgspec.Struct, frozen=True):
    """What a child reads from its standard input."""

    def encode(self) -> bytes:
        """As a line of JSON."""
        return msgspec.json.encode(self) + b"\n"


class Instructions(_Line, frozen=True, tag="instructions"):
    """What a child is told to train: an assignment, and where it is carried out."""

    assignment: Assignment
    placement: TaskPlacement


class Question(_Line, frozen=True, tag="question"):
    """Asks a child for the `ModelFacts` of the experiment's model, for images of shape [height, width, channels]."""

    experiment: Experiment
    shape: tuple[int, int, int]
    classes: int
    run: str | None = None  # URI of its run directory, which may have its own copy of a transferred ticket


class ExportRequest(_Line, frozen=True, tag="export"):
    """Asks a child to write a trained network's files into a local folder, and for what it finds as `Exported`."""

    run: str  # URI of the run directory
    training: str  # a ticket's name, or `dense`
    folder: str  # path
    dataset: DatasetRecord
    data: str | None = None  # URI of the dataset, to evaluate the file on; None: it is not evaluated
    formats: tuple[str, ...] = ("keras",)
    compact: bool = False
    cores: int = 1


class Line(msgspec.Struct, frozen=True):
    """The straight line between the final states of two trainings, by name, of one run directory (a URI)."""

    run: str
    one: str
    other: str


class TrainedNetwork(msgspec.Struct, frozen=True):
    """The final state of a training, by name, of a run directory (a URI)."""

    run: str
    training: str


class Passes(_Line, frozen=True, tag="passes"):
    """Asks a child for forward passes of trained networks over the evaluation split.

    It answers with `LinePoints` for each line, first with the statistics of batch norm interpolated like the weights,
    then, of networks that have any, taken anew from `statistics_images` training images (0: not at all). For each
    network to be predicted with, it answers with `Predictions`, after one with the images' labels.
    """

    experiment: Experiment
    data: str  # URI of the dataset
    dataset_hash: str
    cores: int
    positions: tuple[float, ...]  # on each line: 0 is one end, 1 the other
    lines: tuple[Line, ...] = ()
    statistics_images: int = 0
    networks: tuple[TrainedNetwork, ...] = ()


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """Images were trained on since the last such event (or looked at: 0)."""

    images: int
    done: int | None = None  # trainings of the bundle that have ended so far; None: as before
    activity: Activity | None = None  # what is being trained, and how it goes: every few seconds; None: as before


class Saved(msgspec.Struct, frozen=True, tag="saved"):
    """A checkpoint with something new in it was written."""


class ModelFacts(msgspec.Struct, frozen=True, tag="facts"):
    """The answer to a `Question`: how many weights the model has, and how many of them can be pruned."""

    parameters: int
    prunable: int
    kept: int | None = None  # of the weights that can be pruned, by the mask of a transferred ticket
    kernels: tuple[str, ...] = ()  # paths of those that can be pruned


class CompactFacts(msgspec.Struct, frozen=True):
    """What is left of a network without the channels that nothing reads or feeds, and how fast it is."""

    channels: int  # that its convolutions and dense layers write
    channels_before: int
    parameters: int
    multiply_adds: int  # for an image
    difference: float  # the largest between its outputs and the network's, both computed in float32
    compared: int  # images
    images_per_second: float
    images_per_second_before: float
    batch: int  # images that were timed at once


class Exported(msgspec.Struct, frozen=True, tag="exported"):
    """The answer to an `ExportRequest`: what the network is, as it was built and written."""

    parameters: int
    multiply_adds: int  # of all weights, for an image
    alive_multiply_adds: int  # of the weights that are not 0
    layouts: dict[str, str]  # the order of a kernel's axes, by path
    foreign: tuple[str, ...]  # classes whose code is needed to open the file
    device: str
    top1: float | None = None  # of the file, on the dataset; None if it was not evaluated
    compact: CompactFacts | None = None


class LinePoints(msgspec.Struct, frozen=True, tag="line"):
    """What the networks at all positions on a line do on the evaluation split."""

    line: int  # its index
    statistics: str  # of batch norm: INTERPOLATED like the weights, or RECOMPUTED on training images, or NO_STATISTICS
    errors: tuple[float, ...]  # the share of images that each gets wrong
    losses: tuple[float | None, ...]  # None: not finite, which JSON has no number for
    images: int  # evaluated


class Predictions(msgspec.Struct, frozen=True, tag="predictions"):
    """The class that a network predicts for each evaluation image, little-endian int32; -1 stands for none."""

    network: int | None  # its index; None: these are the labels
    classes: bytes


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Why the child ends; nothing follows it."""

    failure: Failure


Told = Instructions | Question | Passes | ExportRequest
Event = Progress | Saved | ModelFacts | LinePoints | Predictions | Exported | Failed
Report = Callable[[Event], None]
_LINES: msgspec.json.Decoder[Told] = msgspec.json.Decoder(Told)
_EVENTS: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def decode_instructions(line: bytes) -> Told:
    """What is on a child's standard input. Raises msgspec.DecodeError for anything else."""
    return _LINES.decode(line)


def encode_event(event: Event) -> bytes:
    """An event as a line of JSON."""
    return msgspec.json.encode(event) + b"\n"


def decode_event(line: bytes) -> Event | None:
    """The event in a line of a child's standard output; None for a library's print."""
    try:
        event: Event = _EVENTS.decode(line)
    except ValueError:  # msgspec's own, or Unicode's
        return None
    return event
