import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import msgspec
import psutil
import pytest

from lottery import claim
from lottery.claim import BusyError, Claim, claimed
from preprocessing.storage import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def write(store, **fields):
    now = time.time()
    me = Claim("token", socket.gethostname(), os.getpid(), psutil.Process().create_time(), now, now, claim._numbering())
    store.write("claim.json", msgspec.json.encode(msgspec.structs.replace(me, **fields)))


def test_held_for_the_block_and_let_go_after(store):
    with claimed(store):
        assert store.exists("claim.json")
    assert not store.exists("claim.json")
    with pytest.raises(RuntimeError, match="boom"), claimed(store):
        raise RuntimeError("boom")
    assert not store.exists("claim.json")


def test_a_second_is_told_who_works_since_when(store):
    with claimed(store), pytest.raises(BusyError) as error, claimed(store):
        pass
    assert error.value.exit_status == 75
    assert re.search(rf"process {os.getpid()} on {socket.gethostname()} since 20\d\d-", str(error.value))
    assert not store.exists("claim.json")


def test_one_whose_process_is_gone_is_taken_over_at_once(store):
    gone = subprocess.Popen(["true"])
    gone.wait()
    write(store, process=gone.pid)
    with claimed(store):
        pass


def test_one_whose_process_id_is_another_processs_now_is_taken_over(store):
    write(store, process_started=psutil.Process().create_time() - 3600)
    with claimed(store):
        pass


@pytest.mark.parametrize(("age", "busy"), [(10.0, True), (290.0, True), (310.0, False)])
def test_on_another_host_the_heartbeat_decides(store, age, busy):
    write(store, host="elsewhere", numbering="there", process=1, heartbeat=time.time() - age)
    if busy:
        with pytest.raises(BusyError, match="elsewhere"), claimed(store):
            pass
    else:
        with claimed(store):
            pass


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare of util-linux")
def test_a_container_of_this_host_is_not_looked_into(store):
    """Its process 1 is alive and cannot be seen from here; ours cannot be seen from there."""
    program = (
        "import sys, time\nfrom lottery.claim import claimed\nfrom preprocessing.storage import Store\n"
        "with claimed(Store(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    inside = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
    with subprocess.Popen(
        [*inside, sys.executable, "-c", program, store.uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as container:
        if container.stdout.readline() != "held\n":
            pytest.skip("namespaces are not permitted here")
        with pytest.raises(BusyError, match=f"process 1 on {socket.gethostname()}"), claimed(store):
            pass
        container.stdin.close()
        assert container.wait(10) == 0
    assert not store.exists("claim.json")


def test_the_heartbeat_beats(store, monkeypatch):
    monkeypatch.setattr(claim, "_HEARTBEAT", 0.05)
    with claimed(store):
        first = msgspec.json.decode(store.read("claim.json"), type=Claim)
        deadline = time.monotonic() + 10
        while msgspec.json.decode(store.read("claim.json"), type=Claim).heartbeat == first.heartbeat:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert not store.exists("claim.json")


def test_two_that_see_the_same_stale_claim_do_not_both_get_it(store, monkeypatch):
    """Both have read it before either deletes it."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    write(store, process=gone.pid)
    both_read = threading.Barrier(2, timeout=10)
    remove = claim._remove_stale

    def wait_for_the_other(*arguments):
        with contextlib.suppress(threading.BrokenBarrierError):
            both_read.wait()
        remove(*arguments)

    monkeypatch.setattr(claim, "_remove_stale", wait_for_the_other)
    inside, most, refused = [], [], []

    def work():
        try:
            with claimed(store):
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
    with pytest.raises(KeyboardInterrupt), claimed(store):  # noqa: PT012
        write(store, token="another", host="elsewhere")
        time.sleep(60)
    assert time.monotonic() - started < 30
    assert msgspec.json.decode(store.read("claim.json"), type=Claim).token == "another"
