"""What a training process computes on: its threads and GPUs, and the other workers' devices."""

from __future__ import annotations

import platform
from contextlib import suppress
from pathlib import Path

import keras
import tensorflow as tf

from lottery.protocol import EXIT_NO_GPUS
from lottery.worker.position import WorkerPosition
from preprocessing.common.errors import InputError, Kind


class NoGpusError(InputError):
    """A GPU that the task was given is not there."""

    exit_status = EXIT_NO_GPUS
    kind = Kind.GPU_LOST


def configure(threads: int, deterministic: bool) -> None:
    """Sets TensorFlow and Keras up for this process. Call it before anything uses them."""
    # As they are without a ~/.keras/keras.json, which would make a ticket's result depend on where it was trained.
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    # Spark's workers get OMP_NUM_THREADS=1, and TensorFlow would take all cores of the machine: neither is right.
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def check_gpus(given: int) -> None:
    """Raises NoGpusError if TensorFlow does not see as many GPUs as the task was given; 0 is not checked."""
    seen = len(tf.config.list_physical_devices("GPU"))
    if given and seen != given:
        raise NoGpusError(
            f"of the {given} GPUs that Spark gave the task TensorFlow sees {seen}; look at nvidia-smi on this machine"
        )


def hardware(cores: int) -> str:
    """What this process computes on, for people: its GPUs by name, or else its cores, and the processor."""
    gpus = tf.config.list_physical_devices("GPU")
    names = [str(tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")) for gpu in gpus]
    counted = [f"{names.count(name)} x {name}" for name in dict.fromkeys(names)]
    return "; ".join([*counted, f"{cores} core{'s' * (cores > 1)} of {_processor()}"])


def _processor() -> str:
    """The processor's name, or if there is none its architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def strategy(position: WorkerPosition) -> tf.distribute.Strategy:
    """The strategy for this machine's GPUs (one CPU if there are none), together with the other workers.

    With several workers it has to be made before TensorFlow computes anything, and waits for the others.
    """
    gpus = tf.config.list_physical_devices("GPU")  # listing the logical ones would start the runtime
    if position.workers > 1:
        kind = tf.distribute.experimental.CommunicationImplementation
        options = tf.distribute.experimental.CommunicationOptions(implementation=kind.NCCL if gpus else kind.RING)
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    if len(gpus) > 1:
        return tf.distribute.MirroredStrategy([f"/gpu:{index}" for index in range(len(gpus))])
    return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")


def agree(together: tf.distribute.Strategy, number: int) -> bool:
    """Whether all workers have come here with the same number. Every worker has to call it."""
    context = tf.distribute.get_replica_context

    @tf.function
    def bounds() -> list[tf.Tensor]:
        def each() -> list[tf.Tensor]:
            value = tf.constant(number, tf.int64)
            return list(context().all_reduce(tf.distribute.ReduceOp.SUM, [value, value * value]))

        return [together.experimental_local_results(total)[0] for total in together.run(each)]

    count = together.num_replicas_in_sync
    total, squares = (int(value) for value in bounds())
    return (total, squares) == (count * number, count * number**2)
