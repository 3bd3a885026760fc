"""conf/cron: what the wrapper tells spark-submit, and what it tells cron."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.environments import program
from tests.platforms.properties import ROOT

Cron = Callable[..., "subprocess.CompletedProcess[str]"]
STUB = """#!/bin/sh
pwd
for word; do echo "[$word]"; done
echo "error: told to" >&2
exit "$STUB_STATUS"
"""
ARGUMENTS = ["--experiment", "conf/digits.yaml", "--data", "a folder", "--runs", "runs"]


@pytest.fixture
def cron(tmp_path: Path) -> Cron:
    """Runs the wrapper as cron does, in a nearly empty environment; spark-submit only prints its arguments."""
    home = tmp_path / "env"
    shutil.copytree(ROOT / "conf" / "cron", home / "conf" / "cron")
    stub = tmp_path / "spark" / "bin" / "spark-submit"
    stub.parent.mkdir(parents=True)
    stub.write_text(STUB)
    stub.chmod(0o755)

    def run(status: int, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "SPARK_HOME": str(tmp_path / "spark"),
            "LOTTERY_PROPERTIES": "/etc/some.conf",
            "STUB_STATUS": str(status),
            **more,
        }
        return subprocess.run(
            [home / "conf" / "cron" / "sweep.sh", *ARGUMENTS],
            cwd="/",
            env={name: value for name, value in environment.items() if value},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def log_of(folder: Path) -> str:
    (log,) = folder.glob("sweep-????-??-??.log")
    return log.read_text()


@pytest.mark.parametrize("status", [0, 75])
def test_where_all_is_well_cron_hears_nothing(cron: Cron, tmp_path: Path, status: int) -> None:
    done = cron(status)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert f"ends with status {status}\n" in log_of(tmp_path / "lottery-trellis")


def test_a_path_with_other_characters_than_ascii_reaches_spark_whole(cron: Cron, tmp_path: Path) -> None:
    stub = tmp_path / "spark" / "bin" / "spark-submit"
    stub.write_text(stub.read_text().replace("pwd", 'pwd; echo "locale $LC_ALL"'))
    for locale in ("", "C"):
        cron(0, LC_ALL=locale)
    assert log_of(tmp_path / "lottery-trellis").count("locale C.UTF-8") == 2


@pytest.mark.parametrize("status", [1, 2, 74, 130, 143])
def test_a_failure_is_handed_on_with_the_end_of_the_log(cron: Cron, status: int) -> None:
    done = cron(status)
    assert done.returncode == status
    assert done.stdout == ""
    assert f"the sweep ended with status {status}; the end of " in done.stderr
    assert "error: told to\n" in done.stderr


def test_spark_submit_gets_the_properties_the_job_and_every_argument(cron: Cron, tmp_path: Path) -> None:
    cron(0, LOTTERY_LOGS=str(tmp_path / "logs"))
    lines = log_of(tmp_path / "logs").splitlines()
    assert lines[1] == str(tmp_path / "env")
    driver = f"spark.pyspark.driver.python={tmp_path}/env/bin/python"  # whatever the properties say of the containers'
    words = ["--properties-file", "/etc/some.conf", "--conf", driver, "jobs/lottery_sweep.py", *ARGUMENTS]
    assert lines[2:-2] == [f"[{word}]" for word in words]


def test_the_days_runs_share_a_log_that_only_its_owner_reads(cron: Cron, tmp_path: Path) -> None:
    program(tmp_path / "bin" / "date", "echo 2026-11-26")
    for status in (75, 0):
        cron(status, PATH=f"{tmp_path}/bin:/usr/bin:/bin")
    (log,) = (tmp_path / "lottery-trellis").iterdir()
    assert log.read_text().count("starts") == 2
    assert log.stat().st_mode & 0o077 == 0


def test_a_missing_setting_is_named(cron: Cron) -> None:
    done = cron(0, LOTTERY_PROPERTIES="")
    assert done.returncode != 0
    assert "LOTTERY_PROPERTIES: is not set: name the properties file" in done.stderr


def test_the_crontab_is_one() -> None:
    lines = [line for line in (ROOT / "conf" / "cron" / "crontab").read_text().splitlines() if line]
    entries = [line for line in lines if not line.startswith("#") and not re.match(r"[A-Z_]+=", line)]
    assert len(entries) == 1
    schedule, command, *_ = re.split(r" (?=/)", entries[0])
    assert re.fullmatch(r"(\S+ ){4}\S+", schedule)
    assert "%" not in entries[0]  # a newline, to cron
    script = command.split()[0].removeprefix("/opt/lottery-trellis/")
    assert (ROOT / script).is_file()
