"""What has to be right before a gang starts: settings, checked on the driver; the rest, on every executor too."""

from __future__ import annotations

import itertools
import logging
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pyspark import SparkContext

from lottery.driver import containers
from lottery.driver.gang import hadoop_settings, run_gang, settings
from lottery.driver.prepare import Sweep
from lottery.executor import gpu_check, model_check
from lottery.executor.child_environment import child_environment
from lottery.executor.memory import task_memory
from lottery.input.input_memory import InputMemory
from lottery.protocol import ModelFacts, Question, TaskPlacement
from lottery.run.patient_store import PatientStore
from preprocessing.common.clean_up import afterwards
from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.retries import may_pass, patiently
from preprocessing.common.storage import Store, open_store
from preprocessing.common.storage_check import check_usable
from preprocessing.dataset.opening import Dataset

logger = logging.getLogger(__name__)

MINIMUM_FREE_BYTES = 1 << 30


def setting_problems(settings: Mapping[str, str]) -> list[str]:
    """One line for each Spark setting with which a gang cannot run, with the setting to change."""
    problems = []
    if settings.get("spark.dynamicAllocation.enabled", "false") == "true":
        problems.append(
            "spark.dynamicAllocation.enabled=true: Spark refuses barrier stages with it; "
            "set it to false and spark.executor.instances to the number of executors"
        )
    if settings.get("spark.speculation", "false") == "true":
        problems.append("spark.speculation=true: it would train a ticket twice at once; set it to false")
    for name in ("spark.task.resource.gpu.amount", "spark.executor.resource.gpu.amount"):
        if not re.fullmatch(r"0|[1-9][0-9]*", settings.get(name, "1")):
            problems.append(f"{name}={settings[name]}: hands one GPU to several tasks; set it to a whole number")
    on_executor = settings.get("spark.executor.resource.gpu.amount", "0")
    on_task = settings.get("spark.task.resource.gpu.amount", "0")
    if (on_executor == "0") != (on_task == "0"):
        problems.append(
            f"spark.executor.resource.gpu.amount={on_executor} with spark.task.resource.gpu.amount={on_task}: "
            "no task would be given a GPU; set both to the GPUs of an executor, or both to 0"
        )
    standalone = settings.get("spark.master", "").startswith("spark://")
    if standalone and settings.get("spark.authenticate") == "true" and "spark.authenticate.secret" not in settings:
        problems.append(
            "spark.authenticate=true without spark.authenticate.secret: the cluster would refuse this application; "
            "put the cluster's secret into a properties file that only you can read (docs/clusters.md)"
        )
    return problems


def log_warnings(context: SparkContext) -> None:
    """Logs what in the cluster's settings may end executors, before they are waited for.

    Raises SparkEndedError if Spark has ended.
    """
    for line in containers.warnings(settings(context), hadoop_settings(context, containers.HADOOP_SETTINGS)):
        logger.warning(line)


def raise_if_any(problems: Sequence[str], kind: type[InputError] = InputError) -> None:
    """Raises the last of the problems as an error of this kind; the others are logged as errors before."""
    for problem in problems[:-1]:
        logger.error(problem)
    if problems:
        raise kind(problems[-1])


@dataclass(frozen=True)
class Probe:
    """What one task of the gang found on its machine.

    `problems` are lines with their remedies, and so are `outages`: storage that failed, and may work again later.
    """

    placement: TaskPlacement
    problems: tuple[str, ...]
    blob: str  # what it left in the run directory, for the driver to see and delete
    memory: int  # bytes that it may use
    model: ModelFacts | None = None  # if it was asked, and could be built
    outages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Findings:
    """What a preflight found: all tasks' probes, and their problems and outages without repeats."""

    probes: tuple[Probe, ...]
    problems: tuple[str, ...]
    outages: tuple[str, ...]

    @property
    def model(self) -> ModelFacts | None:
        """What the model has; None if nobody asked, or it cannot be built."""
        return next((probe.model for probe in self.probes if probe.model is not None), None)

    def raise_if_any(self) -> None:
        """Raises InputError if there is a problem, else StorageError if storage was away."""
        raise_if_any(self.problems)
        raise_if_any(self.outages, StorageError)


def inspect(sweep: Sweep, context: SparkContext, tasks: int, question: Question | None = None) -> Findings:
    """Has `tasks` tasks, and the driver, check what training will need.

    A run asks no question about the model: its first child builds it before it trains anything.

    Raises as `run_gang` does, and StorageError if the driver cannot read or delete what the probes left.
    """
    folder, store = probe_folder(), open_store(sweep.run.uri)
    what = (
        folder,
        sweep.run.uri,
        sweep.dataset.uri,
        sweep.dataset.content_hash,
        sweep.experiment.gang.check_gpus,
        sweep.input_memory(),
        question,
    )
    with afterwards(lambda: PatientStore(store).delete_tree(folder)):
        probes = run_gang(context, tasks, lambda placement: probe(placement, *what))
        unseen = unseen_probes(store, folder, probes)
        driver_problems, driver_outages = driver_check(store, folder)
    problems = [
        *duplicate_gpus([probe.placement for probe in probes]),
        *driver_problems,
        *(problem for probe in probes for problem in probe.problems),
        *unseen,
    ]
    outages = [*driver_outages, *(outage for probe in probes for outage in probe.outages)]
    return Findings(tuple(probes), tuple(dict.fromkeys(problems)), tuple(dict.fromkeys(outages)))


def probe(
    placement: TaskPlacement,
    folder: str,
    run: str,
    data: str,
    dataset_hash: str,
    check_gpus: bool,
    taken: InputMemory,
    question: Question | None = None,
) -> Probe:
    """Looks, from an executor, at everything that training there will need, and leaves a small blob in the folder.

    The first task answers the question about the model, if there is one: its answer holds for all.
    """
    blob = f"{folder}/{placement.task:03d}"
    checks = (lambda: _check_dataset(data, dataset_hash), lambda: _check_run_directory(run, blob))
    errors = [*_errors(checks)]
    facts = None
    if check_gpus and placement.gpus:
        line = gpu_check.problem(placement.gpus, child_environment(placement.gpus, placement.cores))
        errors += [InputError(line)] if line else []
    if question is not None and placement.task == 0:
        try:
            facts = model_check.ask(question, child_environment((), placement.cores))
        except InputError as error:
            errors.append(error)
    problems, outages = _lines(f"executor {placement.executor}", errors)
    return Probe(placement, problems, blob, task_memory(placement, taken), facts, outages)


def probe_folder() -> str:
    """A folder of a run directory for the blobs of one preflight's probes; another preflight may be at work there."""
    return f"probes-{uuid.uuid4().hex}"


def driver_check(store: Store, folder: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The problem, or the outage, if the driver cannot use the run directory as it will have to."""
    return _lines("driver", _errors([lambda: _check_driver(store, folder)]))


def unseen_probes(store: Store, folder: str, probes: Sequence[Probe]) -> list[str]:
    """One line for each executor whose blob the driver does not see: it has a folder of its own."""
    seen = set(PatientStore(store).list(folder))
    return [
        f"executor {probe.placement.executor}: the driver does not see what it writes to {store.describe()}; "
        "--runs must be on a file system that driver and executors share"
        for probe in probes
        if probe.blob not in seen and not probe.problems and not probe.outages
    ]


def duplicate_gpus(placements: Sequence[TaskPlacement]) -> list[str]:
    """One line for each GPU that was handed to two tasks of one host."""
    claimed = [(each.host, gpu) for each in placements for gpu in each.gpus]
    return [
        f"GPU {gpu} of {host} was handed to {claimed.count((host, gpu))} tasks; "
        "set spark.task.resource.gpu.amount to a whole number and check the discovery script"
        for host, gpu in sorted({gpu for gpu in claimed if claimed.count(gpu) > 1})
    ]


def _check_dataset(data: str, dataset_hash: str) -> None:
    """Raises InputError if this machine does not see the driver's dataset, StorageError if that may pass."""
    try:
        found = Dataset.open(data).content_hash
    except InputError as error:
        raise _with_remedy(error, "the dataset must be on a file system that executors see") from error
    if found != dataset_hash:
        raise InputError(f"dataset {data} is not the driver's; put it on a file system that driver and executors share")


def _check_run_directory(run: str, blob: str) -> None:
    """Raises InputError if this machine cannot write to the run directory, StorageError if that may pass."""
    store = open_store(run)
    try:
        _check_usable(store, f"{blob}-check")
        PatientStore(store).write(blob, b"probe")
    except (InputError, FileNotFoundError) as error:
        raise _with_remedy(error, "--runs must be writable from executors") from error
    folder = store.local_path
    free = shutil.disk_usage(folder).free if folder else MINIMUM_FREE_BYTES
    if free < MINIMUM_FREE_BYTES:
        raise InputError(
            f"{run} has {free >> 20} MiB free; make room for weights and checkpoints, or choose another --runs"
        )


def _check_driver(store: Store, folder: str) -> None:
    """Raises InputError if the driver cannot use the run directory, StorageError if that may pass."""
    try:
        _check_usable(store, f"{folder}/driver-check")
    except StorageError as error:  # which names its own remedy
        raise _kind(error)(str(error)) from error
    except (InputError, FileNotFoundError) as error:
        raise _with_remedy(error, "choose another --runs") from error


def _check_usable(store: Store, name: str) -> None:
    """`check_usable` in folders whose names begin with `name`: an attempt that failed may leave files behind."""
    attempts = itertools.count()
    patiently(lambda: check_usable(store.child(f"{name}-{next(attempts)}")), store)


def _with_remedy(error: Exception, remedy: str) -> InputError:
    return _kind(error)(f"{error}; {remedy}")


def _kind(error: Exception) -> type[InputError]:
    return StorageError if isinstance(error, StorageError) and may_pass(error) else InputError


def _errors(checks: Iterable[Callable[[], None]]) -> Iterator[InputError]:
    for check in checks:
        try:
            check()
        except InputError as error:
            yield error


def _lines(where: str, errors: Iterable[InputError]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Problems and outages, a line each."""
    problems: list[str] = []
    outages: list[str] = []
    for error in errors:
        (outages if isinstance(error, StorageError) else problems).append(f"{where}: {error}")
    return tuple(problems), tuple(outages)
