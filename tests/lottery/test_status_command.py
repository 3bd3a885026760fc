"""`python -m lottery status` on run directories: how often it asks the store, what it prints, when it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lottery.commands import status
from lottery.run.patient_store import PatientStore
from lottery.run.run_directory import run_directory
from lottery.status.reader import Reader
from lottery.status.snapshot import snapshot
from preprocessing.common import claim
from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.storage import open_store
from tests.lottery.command import call
from tests.lottery.s3_proxy import CREDENTIALS, s3_proxy
from tests.lottery.status_looks import claim as holder
from tests.lottery.status_looks import look, result, write


@pytest.fixture
def sweep(small):
    """A sweep in the middle of its tickets."""
    made = small()
    write(made.run, look())
    return made


@pytest.fixture
def at_work(sweep):
    """A sweep that holds its claim: this process."""
    with claim.claimed(open_store(sweep.run.uri), "sweep"):
        yield sweep


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(status, "REFRESH", 0.05)


def finish(sweep):
    for ticket in sweep.tickets:
        sweep.run.write_result(result(ticket))


def test_what_lies_in_a_run_directory_is_what_a_look_has(at_work):
    found = Reader(at_work.run).look()
    wanted = look()
    assert found.replicates == wanted.replicates
    assert (found.heartbeats, found.history) == (wanted.heartbeats, list(wanted.history))
    assert found.alive
    assert (found.claim.process, found.origin.experiment) == (os.getpid(), at_work.experiment)


def test_a_look_asks_little_of_the_store(at_work, monkeypatch):
    reader = Reader(at_work.run)
    reader.look()
    asked = []
    for name in ("read", "list", "exists"):
        whole = getattr(PatientStore, name)
        monkeypatch.setattr(
            PatientStore, name, lambda store, path="", whole=whole: asked.append(path) or whole(store, path)
        )
    reader.look()
    heartbeats = ["heartbeats", "heartbeats/000.json", "heartbeats/001.json"]
    assert sorted(asked) == [*heartbeats, "history.jsonl", "tickets"]  # and the claim
    asked.clear()
    failed = at_work.tickets[3]
    at_work.run.write_result(result(failed, status="failed"))
    reader.look()
    reader.look()
    assert asked.count(f"tickets/{failed.name}/result.json") == 2  # it may be tried again
    assert len(asked) == 2 * 6


def test_a_ticket_that_failed_and_is_tried_again_is_left(at_work):
    reader, failed = Reader(at_work.run), at_work.tickets[3]
    at_work.run.write_result(result(failed, status="failed"))
    assert snapshot(reader.look()).trainings.failed == 1
    at_work.run.reopen(failed)
    assert snapshot(reader.look()).trainings.failed == 0
    at_work.run.write_result(result(failed))
    found = snapshot(reader.look())
    assert (found.trainings.failed, found.trainings.done) == (0, 3)


def test_a_result_that_goes_between_the_listing_and_the_reading_is_not_there(at_work, monkeypatch):
    ticket = at_work.tickets[3]
    done = type(at_work.run).done
    monkeypatch.setattr(type(at_work.run), "done", lambda run: done(run) | {ticket})
    assert ticket not in Reader(at_work.run).look().replicates[0].results


def test_a_damaged_result_is_named(at_work):
    ticket = at_work.tickets[0]
    (Path(at_work.run.uri) / "tickets" / ticket.name / "result.json").write_text("{}")
    with pytest.raises(InputError, match=f"{ticket.name}/result.json is damaged") as raised:
        Reader(at_work.run).look()
    assert type(raised.value) is InputError


def test_once_as_text_and_as_json(at_work, monkeypatch, capsys):
    assert call(monkeypatch, "status", at_work.run.uri, "--price-per-hour", "3") == 0
    said = capsys.readouterr().out
    assert f"process {os.getpid()} on" in said
    assert "tickets and controls: 2 of 14 are done (1 diverged), 3 in training" in said
    assert "spent" in said
    assert call(monkeypatch, "status", at_work.run.uri, "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    tree = json.loads(line)
    assert (tree["state"], tree["cost"], len(tree["tasks"])) == ("running", None, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--watch", "--json"), "--json does not go with --watch; call it as often as you need it"),
        (("--price-per-hour", "0"), "argument --price-per-hour: invalid positive number value: '0'"),
        (("--price-per-hour", "nan"), "argument --price-per-hour: invalid positive number value: 'nan'"),
    ],
)
def test_arguments_that_make_no_sense(at_work, monkeypatch, arguments, message):
    with pytest.raises(InputError, match=message) as raised:
        call(monkeypatch, "status", at_work.run.uri, *arguments)
    assert type(raised.value) is InputError


def test_watching_in_a_pipe_says_what_changes_and_ends_with_the_sweep(sweep, monkeypatch, capsys, fast):
    looks = []
    whole = Reader.look

    def staged(reader):
        looks.append(None)
        if len(looks) == 3:
            sweep.run.write_result(result(sweep.tickets[5]))
        if len(looks) == 4:
            raise StorageError("cannot read runs: away; wait")
        if len(looks) == 6:
            finish(sweep)
        return replace(whole(reader), alive=len(looks) < 6, claim=holder())

    monkeypatch.setattr(Reader, "look", staged)
    assert call(monkeypatch, "status", sweep.run.uri, "--watch") == 0
    out, errors = capsys.readouterr()
    said = out.splitlines()
    assert "2 of 14 trainings done" in said[0]
    assert "3 of 14 trainings done" in said[1]
    assert said[2].endswith(": done")
    assert errors == "warning: cannot read runs: away; wait\n"


@pytest.mark.parametrize(("last", "wanted"), [({}, 0), ({"status": "failed"}, 1)])
def test_the_status_of_watching_is_that_of_the_sweep(sweep, monkeypatch, capsys, last, wanted):
    finish(sweep)
    sweep.run.write_result(result(sweep.tickets[-1], **last))
    assert call(monkeypatch, "status", sweep.run.uri, "--watch") == wanted


def test_watching_a_sweep_that_is_not_running_ends_at_once(sweep, monkeypatch, capsys):
    assert call(monkeypatch, "status", sweep.run.uri, "--watch") == 1
    assert "not running; last sign of life" in capsys.readouterr().out


class Terminal:
    """`status --watch` on a terminal of its own, 100 columns wide."""

    def __init__(self, uri):
        self._end, inner = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
        command = [sys.executable, "-m", "lottery", "status", uri, "--watch"]
        self.process = subprocess.Popen(
            command, stdin=inner, stdout=inner, stderr=inner, env=environment, start_new_session=True
        )
        os.close(inner)
        self.shown = ""

    def wait_for(self, text, times=1):
        deadline = time.monotonic() + 120
        while self.shown.count(text) < times:
            assert time.monotonic() < deadline, self.shown
            self.read()

    def read(self):
        try:
            self.shown += os.read(self._end, 65536).decode()
        except OSError:  # the other end is closed
            assert self.process.wait(30) is not None
            raise AssertionError(self.shown) from None

    def rest(self):
        status = None
        while status is None:
            try:
                self.shown += os.read(self._end, 65536).decode()
            except OSError:
                status = self.process.wait(30)
        return status


@pytest.fixture
def terminal():
    opened = []

    def start(uri):
        opened.append(Terminal(uri))
        return opened[-1]

    yield start
    for each in opened:
        each.process.kill()
        each.process.wait()


def test_ctrl_c_ends_watching_on_a_terminal_without_a_traceback(at_work, terminal):
    shown = terminal(at_work.run.uri)
    shown.wait_for("00-000010-s0 +1")
    os.killpg(shown.process.pid, signal.SIGINT)
    assert shown.rest() == 130
    assert "interrupted" in shown.shown
    assert "Traceback" not in shown.shown
    said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.shown)  # without what moves or shows the cursor
    assert said.rstrip().endswith("interrupted")
    assert "\x1b[?25h" in shown.shown  # the cursor is shown again


def test_ctrl_c_while_the_table_is_shown_for_the_first_time_ends_it_as_well(at_work, monkeypatch, capfd):
    refreshes = []

    def interrupted(self):
        refreshes.append(self)
        if len(refreshes) == 1:
            raise KeyboardInterrupt

    monkeypatch.setenv("FORCE_COLOR", "1")  # makes a terminal of any output
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("rich.live.Live.refresh", interrupted)
    before = sys.stderr
    with pytest.raises(KeyboardInterrupt):
        status._show_live(Reader(at_work.run), None)
    assert sys.stderr is before  # what is said next comes below the table
    assert capfd.readouterr().out.endswith("\x1b[?25h")  # the cursor is shown again


def test_the_table_on_a_terminal_is_redrawn_and_ends_with_the_sweep(sweep, terminal):
    with claim.claimed(open_store(sweep.run.uri), "sweep"):
        shown = terminal(sweep.run.uri)
        shown.wait_for("2 of 14 are done")
        sweep.run.write_result(result(sweep.tickets[5]))
        shown.wait_for("3 of 14 are done")
        finish(sweep)
    assert shown.rest() == 0
    assert "14 of 14 are done" in shown.shown
    assert "\x1b[2K" in shown.shown  # lines are drawn over


@pytest.mark.cluster
def test_a_sweep_on_s3_is_read_with_as_many_requests_as_docs_say(monkeypatch, capsys, small):
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with s3_proxy() as proxy:
        far = small(runs="near")
        run = run_directory(proxy.uri("runs"), far.experiment, far.dataset.content_hash)
        run.bind_experiment(far.experiment, far.dataset.content_hash, 160)
        write(run, look())
        with claim.claimed(open_store(run.uri), "sweep"):
            assert call(monkeypatch, "status", run.uri, "--json") == 0
            tree = json.loads(capsys.readouterr().out.splitlines()[-1])
            assert (tree["state"], tree["trainings"]["done"], len(tree["tasks"])) == ("running", 2, 2)
            reader = Reader(run)
            reader.look()
            asked: list[str] = []
            proxy.deny = lambda request: asked.append(request.path)
            reader.look()
            count = len(asked)
    assert count == 2 + 2 * (2 + 2), asked  # two listings; HEAD and GET of the claim, the history and two heartbeats
