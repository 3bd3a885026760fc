import contextlib
import errno
import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import msgspec
import psutil
import pytest

from preprocessing.common import claim
from preprocessing.common.claim import BusyError, Claim, claimed
from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.storage import open_store
from preprocessing.common.stores.local import LocalStore


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path)


def decode(store):
    return msgspec.json.decode(store.read("claim.json"), type=Claim)


@functools.cache
def mine():
    """A claim of this process, as it is written."""
    with tempfile.TemporaryDirectory() as folder, claimed(open_store(folder), "sweep"):
        return decode(open_store(folder))


def write(store, **fields):
    now, numbering = time.time(), mine().numbering
    me = Claim("token", socket.gethostname(), os.getpid(), psutil.Process().create_time(), now, now, numbering)
    store.write("claim.json", msgspec.json.encode(msgspec.structs.replace(me, **fields)))


def test_held_for_the_block_and_let_go_after(store):
    with claimed(store, "sweep"):
        assert store.exists("claim.json")
    assert not store.exists("claim.json")
    with pytest.raises(RuntimeError, match="boom"), claimed(store, "sweep"):
        raise RuntimeError("boom")
    assert not store.exists("claim.json")


def test_a_second_is_told_who_works_since_when(store):
    with claimed(store, "sweep"), pytest.raises(BusyError) as error, claimed(store, "sweep"):
        pass
    assert error.value.exit_status == 75
    assert re.search(rf"process {os.getpid()} on {socket.gethostname()} since 20\d\d-", str(error.value))
    assert not store.exists("claim.json")


def test_one_whose_process_is_gone_is_taken_over_at_once(store):
    gone = subprocess.Popen(["true"])
    gone.wait()
    write(store, process=gone.pid)
    with claimed(store, "sweep"):
        pass


def test_one_whose_process_id_is_another_processs_now_is_taken_over(store):
    write(store, process_started=psutil.Process().create_time() - 3600)
    with claimed(store, "sweep"):
        pass


YEAR = 365 * 86_400.0
ELSEWHERE = {"host": "elsewhere", "numbering": "there", "process": 1}


@pytest.fixture
def watched(monkeypatch):
    """Claims are looked at often; one that nobody changes is watched for 105 s yet."""
    monkeypatch.setattr(claim, "_LOOK", 0.05)


@pytest.fixture
def quick(watched, monkeypatch):
    """Claims are watched for half a second."""
    monkeypatch.setattr(claim, "_WATCH", 0.5)


@pytest.mark.parametrize("age", [-290.0, -10.0, 10.0, 290.0])
def test_a_fresh_one_of_another_host_is_believed(store, age):
    write(store, **ELSEWHERE, heartbeat=time.time() - age)
    with pytest.raises(BusyError, match="elsewhere"), claimed(store, "sweep"):
        pass


@pytest.mark.parametrize("age", [-YEAR, 310.0, YEAR])
def test_no_foreign_clock_keeps_a_dead_ones_claim(store, quick, age):
    write(store, **ELSEWHERE, heartbeat=time.time() - age)
    started = time.monotonic()
    with claimed(store, "sweep"):
        assert time.monotonic() - started >= claim._WATCH
    assert store.list() == []


@pytest.mark.parametrize("age", [-YEAR, YEAR])
def test_no_foreign_clock_has_a_living_ones_claim_taken_over(store, watched, age):
    write(store, **ELSEWHERE, heartbeat=time.time() - age)
    beat = threading.Timer(0.5, write, (store,), {**ELSEWHERE, "heartbeat": time.time() - age + 30.0})
    beat.start()
    with pytest.raises(BusyError, match="process 1 on elsewhere"), claimed(store, "sweep"):
        pass
    beat.join()
    assert store.list() == ["claim.json"]


def test_one_that_is_let_go_while_it_is_watched_is_free(store, watched):
    write(store, **ELSEWHERE, heartbeat=time.time() - 400)
    threading.Timer(0.5, store.delete, ("claim.json",)).start()
    with claimed(store, "sweep"):
        pass


def test_a_step_of_the_clock_does_not_end_a_living_process(store):
    """The start that the kernel tells in wall-clock time moves with it; the ticks do not."""
    ticks = mine().process_ticks
    assert ticks > 0
    write(store, process_started=psutil.Process().create_time() - YEAR, process_ticks=ticks)
    with pytest.raises(BusyError), claimed(store, "sweep"):
        pass
    write(store, process_ticks=ticks - 1)
    with claimed(store, "sweep"):
        pass


def test_one_that_is_half_written_is_waited_for(store, watched):
    """As where files are not linked into place."""
    store.write("claim.json", b"")
    threading.Timer(0.5, write, (store,)).start()
    with pytest.raises(BusyError, match=f"process {os.getpid()} on"), claimed(store, "sweep"):
        pass


@pytest.mark.parametrize("left", [b"", b'{"token":"4f'])
def test_one_that_stays_half_written_is_taken_over(store, quick, left):
    store.write("claim.json", left)
    with claimed(store, "sweep"):
        pass
    assert store.list() == []


def test_another_json_file_is_not_taken_for_a_claim(store):
    store.write("claim.json", b'{"claims": []}')
    with pytest.raises(InputError, match=r"claim\.json is not a claim; delete it"), claimed(store, "sweep"):
        pass
    assert store.read("claim.json") == b'{"claims": []}'


def test_one_of_an_earlier_version_is_understood(store):
    fields = {"token": "t", "host": "h", "process": os.getpid(), "since": 1e9, "heartbeat": 1.0}
    fields |= {"process_started": psutil.Process().create_time(), "numbering": mine().numbering}
    store.write("claim.json", json.dumps(fields).encode())
    with pytest.raises(BusyError, match=f"process {os.getpid()} on h since 2001-09-"), claimed(store, "sweep"):
        pass


def test_a_folder_that_was_made_for_it_goes_with_it(tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("new", "there"):
        with claimed(open_store(tmp_path / name), "sweep"):
            pass
    with claimed(open_store(tmp_path / "used"), "sweep"):
        (tmp_path / "used" / "file").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there", "used"]


WITHOUT_LINKS = """
import os, sys, threading
from preprocessing.common.stores import base
from preprocessing.common.claim import BusyError, claimed
from preprocessing.common.storage import open_store
from preprocessing.common.stores.local import LocalStore
from preprocessing.common.storage_check import check_usable

def link(*_, **__):
    raise OSError(int(sys.argv[2]), "no links")

os.link = os.symlink = link
base.SETTLE_SECONDS = 0.1
store = open_store(sys.argv[1])
check_usable(store.child("check"))
assert store.list() == []

def contend():
    try:
        with claimed(store, "sweep"):
            inside.append(1)
            together.wait(20)
    except BusyError as error:
        assert f"process {os.getpid()} on" in str(error)
        together.wait(20)

inside, together = [], threading.Barrier(4)
threads = [threading.Thread(target=contend) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert inside == [1], inside
assert store.list() == [], store.list()
print("claimed once", flush=True)
with claimed(store, "sweep"):
    print("held", flush=True)
    sys.stdin.read()
    os._exit(9)
"""


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
def test_a_filesystem_without_hard_links_is_claimed_all_the_same(store, number):
    with subprocess.Popen(
        [sys.executable, "-c", WITHOUT_LINKS, store.uri, str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "claimed once\n"
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=f"process {holder.pid} on"), claimed(store, "sweep"):
            pass
        holder.stdin.close()
        assert holder.wait(10) == 9  # killed, without letting go
    with claimed(store, "sweep"):
        pass
    assert store.list() == []


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare of util-linux")
def test_a_container_of_this_host_is_not_looked_into(store):
    """Its process 1 is alive and cannot be seen from here; ours cannot be seen from there."""
    program = (
        "import sys, time\nfrom preprocessing.common.claim import claimed\n"
        "from preprocessing.common.storage import open_store\n"
        "with claimed(open_store(sys.argv[1]), 'sweep'):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    inside = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
    with subprocess.Popen(
        [*inside, sys.executable, "-c", program, store.uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as container:
        if container.stdout.readline() != "held\n":
            pytest.skip("namespaces are not permitted here")
        with pytest.raises(BusyError, match=f"process 1 on {socket.gethostname()}"), claimed(store, "sweep"):
            pass
        container.stdin.close()
        assert container.wait(10) == 0
    assert not store.exists("claim.json")


def test_the_heartbeat_beats(store, monkeypatch):
    monkeypatch.setattr(claim, "_HEARTBEAT", 0.05)
    with claimed(store, "sweep"):
        first = decode(store)
        deadline = time.monotonic() + 10
        while decode(store).heartbeat == first.heartbeat:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert not store.exists("claim.json")


def test_two_that_see_the_same_stale_claim_do_not_both_get_it(store, monkeypatch):
    """Both have read it before either deletes it."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    write(store, process=gone.pid)
    both_read = threading.Barrier(2, timeout=10)
    remove = claim._remove

    def wait_for_the_other(*arguments):
        with contextlib.suppress(threading.BrokenBarrierError):
            both_read.wait()
        remove(*arguments)

    monkeypatch.setattr(claim, "_remove", wait_for_the_other)
    inside, most, refused = [], [], []

    def work():
        try:
            with claimed(store, "sweep"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.3)
                inside.pop()
        except BusyError as error:
            refused.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * len(most)
    assert len(most) + len(refused) == 2
    assert store.list() == []


@pytest.fixture
def interruptible():
    """As jobs/lottery_sweep.py is, whatever started it: a shell's background jobs ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_one_that_was_taken_over_is_interrupted(store, monkeypatch, interruptible):
    monkeypatch.setattr(claim, "_HEARTBEAT", 0.05)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), claimed(store, "sweep"):  # noqa: PT012
        write(store, token="another", host="elsewhere")
        time.sleep(60)
    assert time.monotonic() - started < 30
    assert decode(store).token == "another"


def test_a_damaged_claim_is_renewed_by_its_holder(store, monkeypatch):
    """A byte that is not UTF-8 once ended the heartbeats, and others took the claim over after a while."""
    monkeypatch.setattr(claim, "_HEARTBEAT", 0.05)
    with claimed(store, "sweep"):
        before = decode(store)
        for damage in (b"\xff", b""):
            damaged = store.read("claim.json").replace(b'"host":"', b'"host":"' + damage)[:200]
            store.write("claim.json", damaged)
            deadline = time.monotonic() + 10
            while store.read("claim.json") == damaged:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert decode(store).token == before.token
    assert not store.exists("claim.json")


def test_a_damaged_claim_is_let_go(store):
    with claimed(store, "sweep"):
        store.write("claim.json", b'{"token":"\xff"}')
    assert not store.exists("claim.json")


def test_letting_go_twice_does_not_delete_the_next_jobs_claim(store, monkeypatch):
    """The first deletion is carried out, its answer is lost, and another job begins before the second."""
    monkeypatch.setattr(LocalStore, "is_local", False)
    monkeypatch.setattr("preprocessing.common.retries.PATIENT_PAUSES", (0.0,))
    delete = LocalStore.delete

    def lost(self, path):
        delete(self, path)
        monkeypatch.setattr(LocalStore, "delete", delete)
        write(store, token="the next job's")
        try:
            raise OSError("Connection reset by peer")
        except OSError as error:
            raise StorageError("no answer") from error

    with claimed(store, "sweep"):
        monkeypatch.setattr(LocalStore, "delete", lost)
    assert decode(store).token == "the next job's"


def test_a_claim_that_cannot_be_deleted_does_not_hide_why_the_work_failed(store, monkeypatch):
    def away(*_):
        raise StorageError("cannot delete: away")

    with pytest.raises(InputError) as caught, claimed(store, "sweep"):  # noqa: PT012
        monkeypatch.setattr(LocalStore, "delete", away)
        raise InputError("the real error")
    assert type(caught.value) is InputError
    monkeypatch.undo()
    store.delete("claim.json")
    with pytest.raises(StorageError) as caught, claimed(store, "sweep"):
        monkeypatch.setattr(LocalStore, "delete", away)
    assert type(caught.value) is StorageError
