"""One job at a time on a run directory or a dataset, by a claim that says who is at work on it, and since when."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil

from preprocessing.common.clean_up import afterwards
from preprocessing.common.errors import InputError
from preprocessing.common.retries import patiently
from preprocessing.common.storage import Store

EXIT_BUSY = 75  # EX_TEMPFAIL of sysexits.h: try again later
STALE_AFTER = 300.0  # seconds: a heartbeat this far off this machine's clock no longer counts as fresh
CLAIM = "claim.json"
_HEARTBEAT = 30.0  # seconds
_WATCH = 3.5 * _HEARTBEAT  # seconds in which a living holder has renewed its claim several times
_LOOK = 1.0  # seconds between looks while watching
_BEGINNING = b'{"token":'  # of every claim; on a filesystem without hard links a claim may be seen half written
_OWN = re.compile(r"claim(\.json|-\w+\.taken-over)")

logger = logging.getLogger(__name__)


class BusyError(InputError):
    """Another job is at work there."""

    exit_status = EXIT_BUSY


class Claim(msgspec.Struct, frozen=True):
    """The process that holds a claim, by host, process id and start time. Times are in seconds since 1970.

    `numbering` says where the process id is valid: one boot of a kernel and, in a container, its namespace.
    `process_ticks` is the start time in clock ticks since that boot, which no step of the wall clock moves; 0 if
    unknown.
    """

    token: str
    host: str
    process: int
    process_started: float
    since: float
    heartbeat: float
    numbering: str = ""
    process_ticks: int = 0


@contextlib.contextmanager
def claimed(store: Store, job: str) -> Iterator[None]:
    """Holds the claim on a folder while the block runs, with a heartbeat every 30 s. `job` is a word for messages.

    A claim whose process can be seen from here, and is gone, is taken over at once. One of another host or another
    container is believed while its heartbeat is less than 5 minutes off this machine's clock. If it is off by more,
    that host is dead or a clock is wrong: the claim is watched, and taken over if it has not changed in 105 s.
    A holder that finds its claim taken over (it was suspended, say) is interrupted.

    Raises BusyError, which names the holder, while the holder is alive.
    """
    folder = store.local_path
    made = folder is not None and not folder.exists()
    me = _new()
    while not patiently(lambda: store.create(CLAIM, msgspec.json.encode(me)), store):
        patiently(lambda: _clear(store, me, job), store)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(store, me, job, ended), daemon=True)
    beating.start()

    def let_go() -> None:
        ended.set()
        beating.join()
        patiently(lambda: _let_go(store, me), store)
        if folder is not None and made:
            with contextlib.suppress(OSError):
                folder.rmdir()  # if it is still empty

    with afterwards(let_go):
        yield


def _let_go(store: Store, claim: Claim) -> None:
    """Deletes the claim if it is still ours: a deletion that seemed to fail may have let another job in."""
    if _holds(store, claim):
        store.delete(CLAIM)


def live_claim(store: Store) -> Claim | None:
    """The claim on a folder; None if no job is at work there, as far as one look tells. Changes nothing."""
    holder, alive = last_claim(store)
    return holder if alive else None


def last_claim(store: Store) -> tuple[Claim | None, bool]:
    """The claim on a folder, and whether its holder is alive, as far as one look tells.

    (None, False) if there is no claim. One that lies there without a living holder was left by a job that was killed.
    """
    data = _read(store)
    holder = None if data is None else _decode(data)
    return holder, holder is not None and _seems_alive(holder)


def check_unclaimed(store: Store) -> None:
    """Raises BusyError if a job is at work there, as far as one look tells; changes nothing."""
    holder = live_claim(store)
    if holder is not None:
        raise _busy(store, holder)


def is_of_claim(name: str) -> bool:
    """Whether a file of that name, directly in a claimed folder, belongs to the claim."""
    return _OWN.fullmatch(name) is not None


def _clear(store: Store, me: Claim, job: str) -> None:
    """Removes a claim whose holder is dead; raises BusyError if it is alive."""
    data = _read(store)
    if data is None:
        return  # let go just now
    holder = _decode(data)
    if holder is not None and _seems_alive(holder):
        raise _busy(store, holder)
    if holder is None and not data.startswith(_BEGINNING[: len(data)]):
        raise InputError(f"{store.describe(CLAIM)} is not a claim; delete it if nothing is at work there")
    if (holder is None or holder.numbering != _numbering()) and not _unchanged(store, data):
        return  # let go meanwhile
    _remove(store, data, me, job)


def _unchanged(store: Store, data: bytes) -> bool:
    """Watches a claim for 105 s of this machine's: True if it stays, False if it goes. BusyError if it beats."""
    holder = _decode(data)
    who = "unknown" if holder is None else f"process {holder.process} on {holder.host}"
    watching = "%s is claimed by %s: watching for %.0f s to see whether it is still alive"
    logger.info(watching, store.describe(), who, _WATCH)
    end = time.monotonic() + _WATCH
    while time.monotonic() < end:
        time.sleep(_LOOK)
        now = _read(store)
        if now is None:
            return False
        holder = _decode(now)
        if now != data and holder is not None:
            raise _busy(store, holder)
    return True


def _remove(store: Store, stale: bytes, me: Claim, job: str) -> None:
    """Deletes a stale claim, and never one that another has put in its place since."""
    # Only one of those that saw this claim may delete it, and only while it is still there.
    holder = _decode(stale)
    token = holder.token if holder is not None else hashlib.sha256(stale).hexdigest()[:32]
    lock = f"claim-{token}.taken-over"
    if not store.create(lock, msgspec.json.encode(me)):
        here = store.describe()
        raise BusyError(
            f"{here} is being taken over by another {job} right now; if that is not so, delete {store.describe(lock)}"
        )
    with afterwards(lambda: store.delete(lock)):
        if _read(store) == stale:
            store.delete(CLAIM)


def _busy(store: Store, holder: Claim) -> BusyError:
    return BusyError(
        f"{store.describe()} is being worked on by process {holder.process} on {holder.host} "
        f"since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(holder.since))}; "
        "wait until it has ended, or stop it"
    )


def _new() -> Claim:
    now, process = time.time(), os.getpid()
    started = psutil.Process().create_time()
    host, ticks = socket.gethostname(), _ticks(process)
    return Claim(uuid.uuid4().hex, host, process, started, now, now, _numbering(), ticks)


def _numbering() -> str:
    """Where process ids are those of here. A container may share the host's name, but not its processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return socket.gethostname()


def _ticks(process: int) -> int:
    """When a process was started, in clock ticks since the boot; 0 if that is not known."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 0


def _read(store: Store) -> bytes | None:
    try:
        return store.read(CLAIM)
    except FileNotFoundError:
        return None


def _decode(data: bytes) -> Claim | None:
    """The claim; None if it is not whole yet, damaged, or something else."""
    try:
        return msgspec.json.decode(data, type=Claim)
    except ValueError:  # not of msgspec's own kind if text is not UTF-8
        return None


def _holds(store: Store, claim: Claim) -> bool:
    """Whether the claim is still ours. A damaged one is: whoever took it over would have written its own, whole."""
    data = _read(store)
    held = None if data is None else _decode(data)
    return data is not None and (held is None or held.token == claim.token)


def _seems_alive(holder: Claim) -> bool:
    """Whether the holder runs, if it can be seen from here; else whether its heartbeat is fresh."""
    if holder.numbering == _numbering():
        return _runs(holder)
    return abs(time.time() - holder.heartbeat) < STALE_AFTER


def _runs(holder: Claim) -> bool:
    """Whether the holder, a process that can be seen from here, still runs and its id is not another process's now."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(holder.process)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if holder.process_ticks:
            return holder.process_ticks == _ticks(holder.process)
        return abs(process.create_time() - holder.process_started) < 1.0
    return False


def _beat(store: Store, claim: Claim, job: str, ended: threading.Event) -> None:
    while not ended.wait(_HEARTBEAT):
        try:
            if not _holds(store, claim):
                logger.error("%s was taken over by another %s; this one stops", store.describe(), job)
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # also out of a blocking call
                return
            store.write(CLAIM, msgspec.json.encode(msgspec.structs.replace(claim, heartbeat=time.time())))
        except Exception as error:  # a claim without heartbeats would be taken over from a living job
            logger.warning("the claim was not renewed: %s; trying again in %.0f s", error, _HEARTBEAT)
