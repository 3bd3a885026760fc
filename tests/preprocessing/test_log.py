from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from preprocessing.common.errors import InputError
from preprocessing.common.log import LEVEL, configure

PROGRAM = """
import logging
from preprocessing.common.log import configure
configure()
configure()
for name in ("lottery.driver.sweep", "preprocessing.job.run", "py4j.java_gateway", "other"):
    logging.getLogger(name).info("%s: 1 of\\n2", name)
    logging.getLogger(name).error("lost")
exec(compile("logging.exception('interrupted')", "/x/py4j-src.zip/py4j/java_gateway.py", "exec"))
logging.getLogger("lottery").info("once")
"""


def said(monkeypatch: pytest.MonkeyPatch, level: str) -> list[str]:
    monkeypatch.setenv(LEVEL, level)
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert not done.stdout
    return done.stderr.splitlines()


def test_each_message_is_one_plain_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, however often it was configured; another library's error as Python shows it, py4j's not at all."""
    assert said(monkeypatch, "") == [
        r"lottery.driver.sweep: 1 of\n2",
        "error: lost",
        r"preprocessing.job.run: 1 of\n2",
        "error: lost",
        "lost",
        "once",
    ]


def test_a_level_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(monkeypatch, "ERROR") == ["error: lost", "error: lost", "lost"]


def test_an_unknown_level_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LEVEL, "LOUD")
    with pytest.raises(InputError, match="^LOTTERY_LOG_LEVEL=LOUD is not a level; give one of DEBUG, INFO"):
        configure()


def test_an_application_that_embeds_it_sees_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    configure()
    with caplog.at_level(logging.INFO):
        logging.getLogger("lottery.x").info("hello")
    assert caplog.messages == ["hello"]
