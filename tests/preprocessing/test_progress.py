"""Progress as lines in a log and as a bar on a terminal."""

from __future__ import annotations

import io
import logging
import sys
import time
from typing import Any

import pytest
from tqdm import tqdm

from preprocessing.common.progress import Pace, StageProgress, format_duration, format_line, format_rate


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What a program logs."""
    caplog.set_level(logging.INFO, logger="preprocessing.common.progress")
    return caplog


def test_a_line() -> None:
    line = format_line("sweep", 30, 100, "tickets", 60.0, {"images/s": "1,200", "failed": 2})
    assert line == "sweep: 30 of 100 tickets (30%), 0.5 tickets/s, 2 min 20 s left, images/s 1,200, failed 2"


def test_what_was_done_before_does_not_count_as_speed() -> None:
    line = format_line("convert", 90, 100, "images", 10.0, {}, resumed=80)
    assert line == "convert: 90 of 100 images (90%), 1.0 images/s, 10 s left"


def test_nothing_done_and_nothing_to_do() -> None:
    assert format_line("convert", 0, 10, "images", 5.0, {}) == "convert: 0 of 10 images (0%)"
    assert format_line("convert", 0, 0, "images", 0.0, {}) == "convert: 0 of 0 images"
    assert format_line("convert", 10, 10, "images", 5.0, {}) == "convert: 10 of 10 images (100%), 2.0 images/s"


def test_figures() -> None:
    assert [format_rate(rate) for rate in (1234.5, 999.0, 1.0, 0.0123)] == ["1,234", "999.0", "1.0", "0.0123"]
    assert [format_duration(s) for s in (0, 59.4, 60, 3599, 3600, 90_000)] == [
        "0 s",
        "59 s",
        "1 min 00 s",
        "59 min 59 s",
        "1 h 00 min",
        "25 h 00 min",
    ]


def test_a_log_gets_few_lines_and_the_last(log: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with StageProgress("convert", 100, "images", every=10.0, clock=clock) as progress:
        for second in range(1, 26):
            clock.now = float(second)
            progress.update(second * 4, rejected=second // 5)
    assert log.messages == [
        "convert: 40 of 100 images (40%), 4.0 images/s, 15 s left, rejected 2",
        "convert: 80 of 100 images (80%), 4.0 images/s, 5 s left, rejected 4",
        "convert: 100 of 100 images (100%), 4.0 images/s, rejected 5",
    ]


def test_the_time_left_is_told_from_the_first_progress_on(log: pytest.LogCaptureFixture) -> None:
    """Half a minute of starting and compiling says nothing of the steps that are left."""
    clock = Clock()
    with StageProgress("sweep", 1000, "steps", resumed=100, every=10.0, clock=clock) as progress:
        for second in range(2, 62, 2):
            clock.now = float(second)
            progress.update(100 if second < 30 else 110 + 10 * (second - 30))
    assert log.messages == [
        "sweep: 100 of 1,000 steps (10%)",
        "sweep: 100 of 1,000 steps (10%)",
        "sweep: 110 of 1,000 steps (11%)",  # the first that there is, which has the start in it
        "sweep: 210 of 1,000 steps (21%), 10.0 steps/s, 1 min 19 s left",
        "sweep: 310 of 1,000 steps (31%), 10.0 steps/s, 1 min 09 s left",
        "sweep: 410 of 1,000 steps (41%), 10.0 steps/s, 59 s left",
        "sweep: 410 of 1,000 steps (41%), 10.0 steps/s, 59 s left",
    ]


def test_word_of_progress_that_comes_in_steps_is_measured_from_step_to_step() -> None:
    pace = Pace(0, 0.0)
    pace.update(25, 6.0)
    assert pace.since(8.0) == (0, 0.0)  # the first alone says nothing
    pace.update(525, 11.0)
    pace.update(525, 13.0)
    assert pace.since(13.0) == (500, 5.0)
    pace.update(525, 106.0)
    assert pace.since(106.0) == (500, 100.0)  # it stands still


def test_a_stage_that_is_over_at_once_has_the_rate_of_the_whole(log: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with StageProgress("convert", 100, "images", clock=clock) as progress:
        clock.now = 5.0
        progress.update(100)
    assert log.messages == ["convert: 100 of 100 images (100%), 20.0 images/s"]


def test_the_bar_of_a_terminal_forgets_the_start_too(monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[Any] = []

    def noted(**settings: Any) -> Any:
        bars.append(tqdm(**settings))
        return bars[-1]

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr("preprocessing.common.progress.tqdm", noted)
    with StageProgress("sweep", 100, "steps") as progress:
        (bar,) = bars
        bar.start_t -= 1000  # as if it had begun then
        progress.update(50)
        assert time.time() - bar.start_t < 100
        assert bar.format_dict["n"] == bar.format_dict["initial"] == 50


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with StageProgress("convert", 100, "images", resumed=10) as progress:
        progress.update(60, rejected=1)
    shown = terminal.getvalue()
    assert "\r" in shown
    assert "60/100" in shown
    assert "rejected=1" in shown
