import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from lottery.supervisor import supervise

CHILD = """
import json, os, signal, subprocess, sys, time
sys.path[:0] = os.environ["TEST_PATH"].split(os.pathsep)
from lottery.supervisor import die_with_parent
die_with_parent()
message = json.load(sys.stdin)
print(json.dumps({"pid": os.getpid(), "visible": os.environ.get("CUDA_VISIBLE_DEVICES")}), flush=True)
print("a library's print", flush=True)
exec(message["code"])
"""


@pytest.fixture
def child(tmp_path, monkeypatch):
    """A module to run as a child; it executes the message's code."""
    (tmp_path / "test_child.py").write_text(CHILD)
    monkeypatch.setenv("TEST_PATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "test_child"


def run(child, code, hang_after=30.0, environment=None):
    events = []
    ended = supervise(child, {"code": code}, environment or {}, hang_after, events.append)
    return ended, events


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_events_are_passed_on_and_prints_are_not(child):
    ended, events = run(child, "print(json.dumps({'step': 3}))", environment={"CUDA_VISIBLE_DEVICES": "2"})
    assert ended.status == 0
    assert events[0]["visible"] == "2"
    assert events[1:] == [{"step": 3}]
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_a_failure_has_its_status_and_the_end_of_its_log(child):
    ended, _ = run(child, "print('why', file=sys.stderr); sys.exit(3)")
    assert (ended.status, ended.reason, ended.tail) == (3, "exit status 3", "why")


def test_a_killed_child_is_told_apart(child):
    ended, _ = run(child, "os.kill(os.getpid(), signal.SIGKILL)")
    assert ended.status == -signal.SIGKILL
    assert "SIGKILL" in ended.reason


@pytest.mark.parametrize("hang", ["time.sleep(600)", "os.kill(os.getpid(), signal.SIGSTOP)"])
def test_a_child_without_progress_is_killed(child, hang):
    started = time.monotonic()
    ended, events = run(child, hang, hang_after=1.5)
    assert time.monotonic() - started < 20
    assert ended.reason == "no progress for 2 s"
    assert gone(events[0]["pid"])


def test_what_a_child_started_goes_with_it(child):
    code = "print(json.dumps({'grandchild': subprocess.Popen(['sleep', '600']).pid}), flush=True)"
    ended, events = run(child, code)
    assert ended.status == 0
    assert wait_until(lambda: gone(events[1]["grandchild"]))


def test_no_child_outlives_a_supervisor_that_is_killed(child, tmp_path):
    """As Spark kills a Python worker: without a chance to clean up."""
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import json, sys\n"
            f"sys.path[:0] = {[path for path in sys.path if path]!r}\n"
            "from lottery.supervisor import supervise\n"
            f"supervise({child!r}, {{'code': 'time.sleep(600)'}}, {{}}, 600.0, "
            "lambda event: print(json.dumps(event), flush=True))",
        ],
        stdout=subprocess.PIPE,
    )
    try:
        pid = json.loads(parent.stdout.readline())["pid"]
        assert not gone(pid)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    assert wait_until(lambda: gone(pid))
