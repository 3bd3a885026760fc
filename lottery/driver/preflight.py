"""What has to be right before a gang is worth starting: settings on the driver, and the rest from the executors."""

from __future__ import annotations

import re
import shutil
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lottery.executor import gpu_check, model_check
from lottery.executor.model_check import ModelFacts, Question
from lottery.executor.task import Place, child_environment, memory
from preprocessing.common.errors import InputError
from preprocessing.common.storage import Store, open_store
from preprocessing.common.storage_check import check_usable
from preprocessing.dataset.opening import Dataset

MINIMUM_FREE_BYTES = 1 << 30


def setting_problems(settings: Mapping[str, str]) -> list[str]:
    """One line for each Spark setting with which a gang cannot run, with the setting that mends it."""
    problems = []
    if settings.get("spark.dynamicAllocation.enabled", "false") == "true":
        problems.append(
            "spark.dynamicAllocation.enabled=true: Spark refuses barrier stages with it; "
            "set it to false and spark.executor.instances to the number of executors"
        )
    if settings.get("spark.speculation", "false") == "true":
        problems.append("spark.speculation=true: would train a ticket twice at once; set it to false")
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


def refuse(problems: Sequence[str]) -> None:
    """Raises InputError where there are problems; of several, all but the last are printed as errors before."""
    for problem in problems[:-1]:
        print(f"error: {problem}", file=sys.stderr, flush=True)
    if problems:
        raise InputError(problems[-1])


@dataclass(frozen=True)
class Probe:
    """What one task of the gang found where it runs; `problems` are lines with their remedies."""

    place: Place
    problems: tuple[str, ...]
    blob: str  # what it left in the run directory, for the driver to see and delete
    memory: int  # bytes that it may use
    model: ModelFacts | None = None  # where it was asked, and could be built


def probe(
    place: Place,
    folder: str,
    run: str,
    data: str,
    dataset_hash: str,
    check_gpus: bool,
    question: Question | None = None,
) -> Probe:
    """Looks, from an executor, at everything that training there will need, and leaves a small blob in the folder.

    The first task answers the question about the model, if there is one: what it says holds for all.
    """
    blob = f"{folder}/{place.task:03d}"
    checks = [_dataset_problem(data, dataset_hash), _run_directory_problem(run, blob)]
    if check_gpus and place.gpus:
        checks.append(gpu_check.problem(place.gpus, child_environment(place.gpus, place.cores)))
    facts = None
    if question is not None and place.task == 0:
        try:
            facts = model_check.ask(question, child_environment((), place.cores))
        except InputError as error:
            checks.append(str(error))
    problems = tuple(f"executor {place.executor}: {problem}" for problem in checks if problem)
    return Probe(place, problems, blob, memory(place), facts)


def probe_folder() -> str:
    """Where the probes of one preflight leave their blobs in a run directory; another's may be at work there."""
    return f"probes-{uuid.uuid4().hex}"


def driver_problems(store: Store, folder: str) -> list[str]:
    """A line where the driver cannot do with the run directory what it will have to."""
    try:
        check_usable(store.child(f"{folder}/driver-check"))
    except (InputError, FileNotFoundError) as error:
        return [f"driver: {error}; choose another --runs"]
    return []


def unseen_probes(store: Store, folder: str, probes: Sequence[Probe]) -> list[str]:
    """One line for each executor whose blob the driver does not see: it writes to a folder of its own."""
    seen = set(store.list(folder))
    return [
        f"executor {probe.place.executor}: what it writes to {store.describe()} the driver does not see; "
        "--runs must be on a file system that driver and executors share"
        for probe in probes
        if probe.blob not in seen and not probe.problems
    ]


def duplicate_gpus(places: Sequence[Place]) -> list[str]:
    """One line for each GPU that was handed to two tasks of one host."""
    claimed = [(place.host, gpu) for place in places for gpu in place.gpus]
    return [
        f"GPU {gpu} of {host} was handed to {claimed.count((host, gpu))} tasks; "
        "set spark.task.resource.gpu.amount to a whole number and check the discovery script"
        for host, gpu in sorted({gpu for gpu in claimed if claimed.count(gpu) > 1})
    ]


def _dataset_problem(data: str, dataset_hash: str) -> str | None:
    try:
        found = Dataset.open(data).content_hash
    except InputError as error:
        return f"{error}; the dataset must be on a file system that executors see"
    if found != dataset_hash:
        return f"dataset {data} is not the driver's; put it on a file system that driver and executors share"
    return None


def _run_directory_problem(run: str, blob: str) -> str | None:
    store = open_store(run)
    try:
        check_usable(store.child(f"{blob}-check"))
        store.write(blob, b"probe")
    except (InputError, FileNotFoundError) as error:
        return f"{error}; --runs must be writable from executors"
    folder = store.local_path
    free = shutil.disk_usage(folder).free if folder else MINIMUM_FREE_BYTES
    if free < MINIMUM_FREE_BYTES:
        return f"{run} has {free >> 20} MiB free; make room for weights and checkpoints, or choose another --runs"
    return None
