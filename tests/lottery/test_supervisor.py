import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from lottery.executor import supervisor
from lottery.executor.supervisor import ChildError, supervise

CHILD = """
import json, os, signal, subprocess, sys, time
sys.path[:0] = os.environ["TEST_PATH"].split(os.pathsep)
from lottery.worker.parent_death import end_with_parent
from lottery.worker.shutdown import ShutdownRequest, ShutdownRequested
end_with_parent(float(os.environ.get("TEST_NOTICE", 30)))
message = json.loads(sys.stdin.readline())
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


def instruction(code):
    return json.dumps({"code": code}).encode() + b"\n"


def hearing(events):
    """Takes note of the lines that are JSON objects."""

    def hear(line):
        if line.startswith(b"{"):
            events.append(json.loads(line))

    return hear


def run(child, code, hang_after=30.0, **environment):
    events = []
    ended = supervise(child, instruction(code), {**os.environ, **environment}, hang_after, hearing(events))
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


def test_lines_are_passed_on(child):
    ended, events = run(child, "print(json.dumps({'step': 3}))", CUDA_VISIBLE_DEVICES="2")
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


def test_a_child_whose_partner_has_ended_gets_some_time_to_notice(child, monkeypatch):
    """As one that waits for TensorFlow's cluster, which the other one left before it had formed."""
    monkeypatch.setattr(supervisor, "_ALONE", 1.5)
    ended = supervise(child, instruction("time.sleep(600)"), os.environ, 60.0, lambda line: None, lambda: True)
    assert ended.alone
    assert ended.reason == "no progress for 2 s after the process of another task that trains with it had ended"


def test_a_child_that_goes_on_after_its_partner_has_ended_is_left_alone(child, monkeypatch):
    """As one that saves what the two have trained."""
    monkeypatch.setattr(supervisor, "_ALONE", 1.5)
    code = "for _ in range(6): time.sleep(0.5); print('{}', flush=True)"
    ended = supervise(child, instruction(code), os.environ, 60.0, lambda line: None, lambda: True)
    assert (ended.status, ended.alone) == (0, False)


def test_what_a_child_started_goes_with_it(child):
    code = "print(json.dumps({'grandchild': subprocess.Popen(['sleep', '600']).pid}), flush=True)"
    ended, events = run(child, code)
    assert ended.status == 0
    assert wait_until(lambda: gone(events[1]["grandchild"]))


def test_a_child_that_has_closed_its_output_is_waited_for_no_longer_than_a_silent_one(child):
    ended, events = run(child, "os.close(1); time.sleep(600)", hang_after=1.5)
    assert ended.reason == "no progress for 2 s"
    assert gone(events[0]["pid"])


def test_a_process_that_even_sigkill_does_not_end_is_named(child, monkeypatch):
    """As one that waits in the kernel for a device."""
    pids = []
    monkeypatch.setattr(supervisor, "_kill_group", lambda child: pids.append(child.pid))
    monkeypatch.setattr(supervisor, "_DYING", 0.1)
    try:
        with pytest.raises(ChildError, match="outlives SIGKILL"):
            run(child, "time.sleep(600)", hang_after=1.0)
    finally:
        os.killpg(pids[0], signal.SIGKILL)


HEEDS = """
shutdown = ShutdownRequest()
shutdown.install()
print(json.dumps({"ready": True}), flush=True)
try:
    while True:
        time.sleep(0.05)
        shutdown.check()
except ShutdownRequested:
    print(json.dumps({"saved": 1}), flush=True)
    sys.exit(143)
"""


def test_a_child_that_is_told_to_leave_saves_and_leaves(child):
    events = []

    def hear(line):
        hearing(events)(line)
        if "ready" in events[-1]:
            os.kill(events[0]["pid"], signal.SIGTERM)

    ended = supervise(child, instruction(HEEDS), os.environ, 30.0, hear)
    assert events[-1] == {"saved": 1}
    assert (ended.status, ended.on_notice) == (143, True)
    assert ended.reason == "told to leave by SIGTERM"


@pytest.fixture
def orphan(child, monkeypatch):
    """Starts a child whose supervisor is killed when the child is ready, as Spark kills a Python worker."""
    monkeypatch.setenv("TEST_NOTICE", "2")
    parents = []

    def make(code):
        parent = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import json, os, sys\n"
                f"sys.path[:0] = {[path for path in sys.path if path]!r}\n"
                "from lottery.executor.supervisor import supervise\n"
                f"supervise({child!r}, {instruction(code)!r}, os.environ, 600.0, "
                "lambda line: print(line.decode(), end='', flush=True))",
            ],
            stdout=subprocess.PIPE,
        )
        parents.append(parent)
        pid = json.loads(parent.stdout.readline())["pid"]
        assert b"print" in parent.stdout.readline()
        assert b"ready" in parent.stdout.readline()
        group = [process.pid for process in psutil.Process(pid).children()]
        assert len(group) == 1
        parent.kill()
        parent.wait()
        return [pid, *group]

    yield make
    for parent in parents:
        parent.kill()
        parent.wait()
        parent.stdout.close()


def test_a_child_whose_supervisor_is_killed_has_the_notice_to_save(orphan, tmp_path):
    saved = tmp_path / "saved"
    heeds = HEEDS.replace('print(json.dumps({"saved": 1}), flush=True)', f"time.sleep(0.5); open({str(saved)!r}, 'w')")
    group = orphan(heeds)
    assert wait_until(lambda: all(map(gone, group)))
    assert saved.exists()


def test_the_next_child_waits_for_one_that_is_still_saving(orphan, child, tmp_path):
    saved = tmp_path / "saved"
    heeds = HEEDS.replace('print(json.dumps({"saved": 1}), flush=True)', f"time.sleep(1); open({str(saved)!r}, 'w')")
    orphan(heeds)
    _, events = run(child, f"print(json.dumps({{'saved': os.path.exists({str(saved)!r})}}))")
    assert events[-1] == {"saved": True}


@pytest.mark.parametrize(
    "code",
    [
        "print(json.dumps({'ready': 1}), flush=True); time.sleep(600)",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); print(json.dumps({'ready': 1}), flush=True); time.sleep(600)",
        "print(json.dumps({'ready': 1}), flush=True); os.kill(os.getpid(), signal.SIGSTOP)",
    ],
    ids=["busy", "deaf", "stopped"],
)
def test_no_child_outlives_the_notice(orphan, code):
    group = orphan(code)
    assert wait_until(lambda: all(map(gone, group)))
