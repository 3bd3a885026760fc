"""The other run directories below the same folder, which may have trained what a sweep needs."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lottery.run.origin import Origin
from lottery.run.run_directory import RunDirectory
from preprocessing.common.claim import Claim, live_claim
from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.retries import patiently
from preprocessing.common.storage import Store, open_store

logger = logging.getLogger(__name__)

_THREADS = 8


@dataclass(frozen=True)
class Sibling:
    """A run directory and whose results lie in it.

    Args:
        name: relative to the folder of all run directories.
        claimed: the folder that holds the claim on it.
    """

    name: str
    run: RunDirectory
    origin: Origin
    claimed: Store

    def claim(self) -> Claim | None:
        """The claim of a sweep that is at work there, as far as one look tells; None if there is none."""
        return patiently(lambda: live_claim(self.claimed), self.claimed)


def find_siblings(runs: str, own: str) -> list[Sibling]:
    """The run directories below `runs`, except for the one with the URI `own`, by name. Nothing is changed.

    One of several seeds counts as the run directories of its seeds. Damaged ones and other folders are left out.

    Raises StorageError if `runs` cannot be listed.
    """
    store = open_store(runs)
    places = [(name, store.child(name)) for name in patiently(store.folders, store)]
    others = [(name, place) for name, place in places if place.uri != own]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [sibling for found in pool.map(lambda other: _read(*other), others) for sibling in found]


def _read(name: str, place: Store) -> list[Sibling]:
    run = RunDirectory(place)
    origin = _origin(run)
    if origin is None or not origin.experiment.seeds:
        return [] if origin is None else [Sibling(name, run, origin, place)]
    found = [(seed, run.replicate(seed)) for seed in origin.experiment.seeds]
    return [
        Sibling(f"{name}/seed-{seed}", replicate, whose, place)
        for seed, replicate in found
        if (whose := _origin(replicate)) is not None
    ]


def _origin(run: RunDirectory) -> Origin | None:
    """Whose results lie there; None if that cannot be told."""
    try:
        return run.origin()
    except StorageError as error:
        logger.warning("%s is not looked at for what can be reused: %s", run.describe(), error)
    except (FileNotFoundError, InputError) as error:
        logger.debug("%s is not looked at for what can be reused: %s", run.describe(), error)
    return None
