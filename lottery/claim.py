"""One sweep at a time on a run directory: who is at work on it, and since when."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil

from preprocessing.errors import InputError, StorageError
from preprocessing.retries import PATIENT_PAUSES, retrying
from preprocessing.storage import Store

EXIT_BUSY = 75  # EX_TEMPFAIL of sysexits.h: try again later
STALE_AFTER = 300.0  # seconds without a heartbeat
_HEARTBEAT = 30.0  # seconds
_PATH = "claim.json"


class BusyError(InputError):
    """Another sweep is at work on the run directory."""

    exit_status = EXIT_BUSY


class Claim(msgspec.Struct, frozen=True):
    """Who works: a process by host, process id and the time it was started, all times in seconds since 1970.

    `numbering` says where the process id means that process: a boot of a kernel and, in a container, its namespace.
    """

    token: str
    host: str
    process: int
    process_started: float
    since: float
    heartbeat: float
    numbering: str = ""


@contextlib.contextmanager
def claimed(store: Store) -> Iterator[None]:
    """Holds the claim on a run directory while the block runs, with a heartbeat every 30 s.

    A claim is taken over at once where its process can be seen from here and is gone, and after 5 minutes without a
    heartbeat where it was on another host or in another container. One that finds its own claim taken over (it was
    suspended, say) is interrupted.
    Raises BusyError, which names the holder, while its holder is alive.
    """
    me = _new()
    while not store.create(_PATH, msgspec.json.encode(me)):
        holder = _read(store)
        if holder is None:
            continue  # let go just now
        if _is_alive(holder, time.time()):
            raise BusyError(
                f"{store.uri} is being worked on by process {holder.process} on {holder.host} "
                f"since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(holder.since))}; "
                "wait until it has ended, or stop it"
            )
        _remove_stale(store, holder, me)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(store, me, ended), daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        pauses = PATIENT_PAUSES if store.local_path is None else ()
        if retrying(lambda: _holds(store, me), pauses):
            retrying(lambda: store.delete(_PATH), pauses)


def _remove_stale(store: Store, stale: Claim, me: Claim) -> None:
    """Deletes a stale claim, and never one that another has put in its place since."""
    # Of all that saw this claim one may delete it, and only while it is still there.
    lock = f"claim-{stale.token}.taken-over"
    if not store.create(lock, msgspec.json.encode(me)):
        raise BusyError(f"{store.uri} is just being taken over by another sweep; if not, delete {store.uri}/{lock}")
    try:
        if _holds(store, stale):
            store.delete(_PATH)
    finally:
        store.delete(lock)


def _new() -> Claim:
    now = time.time()
    started = psutil.Process().create_time()
    return Claim(uuid.uuid4().hex, socket.gethostname(), os.getpid(), started, now, now, _numbering())


def _numbering() -> str:
    """Where process ids mean what they mean here; a container may share the host's name and not its processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return socket.gethostname()


def _read(store: Store) -> Claim | None:
    try:
        return msgspec.json.decode(store.read(_PATH), type=Claim)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        raise InputError(f"{store.uri}/{_PATH} is not a claim; delete it if no sweep is at work there") from None


def _holds(store: Store, claim: Claim) -> bool:
    held = _read(store)
    return held is not None and held.token == claim.token


def _is_alive(holder: Claim, now: float) -> bool:
    if holder.numbering == _numbering():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(holder.process)
            # The id may have been given to another process since.
            running = process.status() != psutil.STATUS_ZOMBIE
            return running and abs(process.create_time() - holder.process_started) < 1.0
        return False
    return now - holder.heartbeat < STALE_AFTER


def _beat(store: Store, claim: Claim, ended: threading.Event) -> None:
    while not ended.wait(_HEARTBEAT):
        with contextlib.suppress(StorageError):  # away for a moment; the next beat tries again
            if not _holds(store, claim):
                print(
                    f"error: {store.uri} was taken over by another sweep; this one stops", file=sys.stderr, flush=True
                )
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # also out of a blocking call
                return
            store.write(_PATH, msgspec.json.encode(msgspec.structs.replace(claim, heartbeat=time.time())))
